"""Cut a single-device model down to one rank's part, before it has weights.

Attention heads, the width of feed-forward layers and the vocabulary are divided.  Each rank then computes a part of the
sum that a layer adds to the residual stream, and hooks add the parts up: two all-reduces of [T, dim] per layer, after
Megatron-LM (arXiv:1909.08053).  A stage of a pipeline keeps its own layers; what stands in for its embedding takes the
hidden states from the stage before, what stands in for its final norm sends them on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mistral_local.args import TransformerArgs
from mistral_local.model.attention import Attention
from mistral_local.model.linear import Embedding, Linear, linears
from mistral_local.model.moe import MoeFeedForward
from mistral_local.parallel.rules import Sharding
from mistral_local.parallel.vocabulary import VocabularyShard
from mistral_local.parallel.world import World
from mistral_local.weights.slots import Slot

EMBEDDINGS, OUTPUT = "tok_embeddings.weight", "output.weight"


class Decoder(Protocol):
    """What is cut: a Transformer on the meta device."""

    args: TransformerArgs
    world: World
    slots: dict[str, Slot] | None
    tok_embeddings: nn.Module
    layers: nn.ModuleList
    norm: nn.Module
    output: nn.Module | None

    @property
    def dtype(self) -> torch.dtype: ...

    def weight_slots(self) -> dict[str, Slot]: ...

    def get_submodule(self, target: str) -> nn.Module: ...


def parallelize(model: Decoder, sharding: Sharding) -> None:
    """Cut a model on the meta device in place; its world is that of the sharding."""
    whole, place = model.weight_slots(), sharding.place
    for layer in set(range(sharding.args.n_layers)) - set(place.layers(sharding.args.n_layers)):
        delattr(model.layers, str(layer))  # the others keep their numbers
    for block in model.layers:
        _cut_block(block, sharding, model.world)
    _cut_ends(model, sharding)
    slots = {name: _slot(name, slot, sharding) for name, slot in whole.items()}
    for slot in slots.values():
        if slot.parameter is not None:
            _resize(model, slot.parameter, slot.held_shape)
    model.slots = slots


def _cut_block(block: nn.Module, sharding: Sharding, world: World) -> None:
    """Fewer heads and experts, and the sum over the ranks after each half of the block."""
    attention, feed_forward = block.attention, block.feed_forward
    assert isinstance(attention, Attention)
    assert isinstance(feed_forward, nn.Module)
    attention.n_heads = len(sharding.place.part(attention.n_heads))
    attention.n_kv_heads = len(sharding.place.part(attention.n_kv_heads))
    if isinstance(feed_forward, MoeFeedForward):
        feed_forward.hold(sharding.experts)
    if world.tp.size > 1:
        attention.register_forward_hook(_sum_up(world))
        feed_forward.register_forward_hook(_sum_up(world))


def _sum_up(world: World) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, args, output: world.tp.all_reduce(output)


def _cut_ends(model: Decoder, sharding: Sharding) -> None:
    """Embedding, final norm and output projection: on the first and last stage only, and by vocabulary there."""
    args, place, world = sharding.args, sharding.place, model.world
    vocabulary = VocabularyShard(world.tp, args.vocab_size)
    if place.is_first_stage:
        model.tok_embeddings = ShardedEmbedding(vocabulary, args.dim)
    else:
        model.tok_embeddings = FromStageBefore(world, args.dim, lambda: model.dtype)
    matrix: Linear | Embedding | None = None
    if place.is_last_stage and args.tied_embeddings and isinstance(model.tok_embeddings, ShardedEmbedding):
        matrix = model.tok_embeddings
    elif place.is_last_stage:
        matrix = Linear(args.dim, len(vocabulary.tokens))
    else:
        model.norm = ToNextStage(world)
    model.output = ShardedOutput(matrix, vocabulary, world)


def _slot(name: str, slot: Slot, sharding: Sharding) -> Slot:
    """Where a tensor of the checkpoint goes on this rank, if anywhere."""
    if not sharding.holds(name):
        return Slot(None, slot.shape)
    is_output = name == OUTPUT or (name == EMBEDDINGS and not sharding.place.is_first_stage)
    return Slot("output.matrix.weight" if is_output else name, slot.shape, sharding.part(name, slot.shape))


def _resize(model: Decoder, parameter: str, shape: tuple[int, ...]) -> None:
    owner = model.get_submodule(parameter.removesuffix(".weight"))
    owner.weight = nn.Parameter(torch.empty(shape, device="meta"))
    if isinstance(owner, Linear):
        owner.out_features, owner.in_features = shape


class ShardedEmbedding(Embedding):
    """The rows of this rank's tokens; each rank looks up its own, and the sum is the whole."""

    def __init__(self, vocabulary: VocabularyShard, dim: int) -> None:
        super().__init__(len(vocabulary.tokens), dim)
        self.vocabulary = vocabulary

    def forward(self, input_ids: Tensor) -> Tensor:
        """[T] -> [T, dim]."""
        if self.vocabulary.group.size == 1:
            return super().forward(input_ids)
        tokens = self.vocabulary.tokens
        is_here = (input_ids >= tokens.start) & (input_ids < tokens.stop)
        x = super().forward((input_ids - tokens.start).where(is_here, 0)) * is_here[:, None]
        return self.vocabulary.group.all_reduce(x)


class ShardedOutput(nn.Module):
    """The output projection, of which each rank of the last stage holds the rows of its tokens.

    Attributes:
        matrix: has them; None on other stages.
    """

    def __init__(self, matrix: Linear | Embedding | None, vocabulary: VocabularyShard, world: World) -> None:
        super().__init__()
        self.matrix, self.vocabulary, self.world = matrix, vocabulary, world

    def own(self, hidden: Tensor) -> Tensor:
        """[S, dim] -> [S, tokens of this rank] fp32; on the last stage."""
        assert self.matrix is not None
        return linears(hidden, self.matrix)[0].float()

    def forward(self, hidden: Tensor) -> Tensor:
        """[S, dim] -> [S, vocab] fp32 on every rank of every stage."""
        if self.matrix is None:
            logits = hidden.new_empty(len(hidden), self.vocabulary.vocab_size, dtype=torch.float32)
        else:
            logits = self.vocabulary.all_gather(self.own(hidden))
        return self.world.broadcast_from_last_stage(logits)


class FromStageBefore(nn.Module):
    """Stands in for the embedding where the first layers are elsewhere."""

    def __init__(self, world: World, dim: int, dtype: Callable[[], torch.dtype]) -> None:
        super().__init__()
        self.world, self.dim, self.dtype = world, dim, dtype

    def forward(self, input_ids: Tensor) -> Tensor:
        """[T] -> [T, dim]."""
        x = torch.empty(len(input_ids), self.dim, dtype=self.dtype(), device=input_ids.device)
        return self.world.receive_from_before(x)


class ToNextStage(nn.Module):
    """Stands in for the final norm where more layers follow elsewhere."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def forward(self, x: Tensor) -> Tensor:
        """[T, dim] -> the same."""
        self.world.send_on(x)
        return x
