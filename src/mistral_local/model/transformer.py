"""The decoder: embeddings, blocks, final norm and output projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mistral_local.args import TransformerArgs
from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.batch import AttentionMetadata, Batch, uncached_batch
from mistral_local.attention.select import reasons_against_native_attention, select_backend
from mistral_local.errors import TokenIdError
from mistral_local.kernels import native
from mistral_local.kernels.packed_linear import reasons_against_packing
from mistral_local.kernels.transfer import current
from mistral_local.kvcache.storage import KVCache, LayerCache
from mistral_local.memory import free_bytes
from mistral_local.model.attention import Attention
from mistral_local.model.base import ModelBase
from mistral_local.model.feed_forward import FeedForward
from mistral_local.model.linear import Embedding, Linear, linears
from mistral_local.model.moe import MoeFeedForward
from mistral_local.model.norm import RMSNorm
from mistral_local.model.residual import Residual
from mistral_local.model.rope import rotations


class TransformerBlock(nn.Module):
    """Pre-norm residual block: attention, then a dense or mixture-of-experts feed-forward layer."""

    def __init__(self, args: TransformerArgs, layer: int) -> None:
        super().__init__()
        self.attention = Attention(args, layer)
        self.attention_norm = RMSNorm(args.dim, args.norm_eps)
        self.feed_forward = FeedForward(args) if args.moe is None else MoeFeedForward(args, args.moe)
        self.ffn_norm = RMSNorm(args.dim, args.norm_eps)

    def forward(
        self,
        x: Residual,
        rotation: Tensor,
        *,
        backend: AttentionBackend,
        cache: LayerCache | None,
        metadata: AttentionMetadata,
        is_token: Tensor | None = None,
    ) -> Residual:
        """[T, dim] -> [T, dim]; is_token as in Batch."""
        normed = x.normed(self.attention_norm)
        x = x.plus(self.attention, normed, rotation, backend=backend, cache=cache, metadata=metadata)
        return x.plus(self.feed_forward, x.normed(self.ffn_norm), is_token)


class Transformer(ModelBase):
    """A dense or mixture-of-experts decoder, for one device.

    Built from arguments its weights are random; `from_folder` reads a checkpoint.
    """

    def __init__(self, args: TransformerArgs) -> None:
        super().__init__(args)
        self.tok_embeddings = Embedding(args.vocab_size, args.dim)
        self.layers = nn.ModuleList([TransformerBlock(args, layer) for layer in range(args.n_layers)])
        self.norm = RMSNorm(args.dim, args.norm_eps)
        self.output: nn.Module | None = None if args.tied_embeddings else Linear(args.dim, args.vocab_size)

    @torch.inference_mode()
    def forward(self, input_ids: Tensor, seqlens: list[int]) -> Tensor:
        """Compute logits of whole sequences, without a cache.

        Args:
            input_ids: [sum(seqlens)] token ids, one sequence after the other.
            seqlens: length of each sequence.

        Returns:
            [sum(seqlens), vocab_size] fp32; row i scores the token after token i.  Causal inside each sequence, and
            blind across sequences.

        Raises:
            ShapeError: if the lengths do not add up.
            TokenIdError: if an id is outside the vocabulary.
        """
        ids = input_ids.to(self.device, torch.int64)
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.args.vocab_size:
            raise TokenIdError(
                f"token ids must be 0 .. {self.args.vocab_size - 1}, got {int(ids.min())} .. {int(ids.max())}"
            )
        with current(self.device):
            return self.logits(self.hidden(uncached_batch(ids, seqlens), None))

    def hidden(self, batch: Batch, cache: KVCache | None) -> Tensor:
        """Run the blocks over one step; new keys and values go to `cache`.

        Returns:
            [T, dim] hidden states after the final norm, in the model's dtype.
        """
        backend = self.attention_backend(self.dtype if cache is None else cache.dtype)
        rotation = rotations(batch.positions, self.args.head_dim, self.args.theta)
        is_token = batch.is_token()
        x = Residual(self.tok_embeddings(batch.input_ids))
        for index, layer in enumerate(self.layers):
            layer_cache = None if cache is None else cache.layers[index]
            metadata = batch.attention[0 if layer_cache is None else layer_cache.group]
            x = layer(x, rotation, backend=backend, cache=layer_cache, metadata=metadata, is_token=is_token)
        return self.norm(x.total)

    def logits(self, hidden: Tensor) -> Tensor:
        """[S, dim] hidden states -> [S, vocab_size] fp32 logits."""
        if self.output is None:
            return linears(hidden, self.tok_embeddings)[0].float()
        logits: Tensor = self.output(hidden).float()
        return logits

    def attention_backend(self, kv_dtype: torch.dtype) -> AttentionBackend:
        """What computes attention over keys and values that are stored so."""
        return select_backend(self.device, self.dtype, self.args.head_dim, kv_dtype)

    @property
    def num_kv_heads(self) -> int:
        """Key/value heads of each layer that are here."""
        return next(module.n_kv_heads for module in self.modules() if isinstance(module, Attention))

    def has_compiled_kernels(self, num_tokens: int) -> bool:
        """Whether a step of so many tokens is run by kernels compiled for this CPU, which read weights as stored."""
        return num_tokens <= native.MAX_ROWS and not native.reasons_against_native(self.device, self.dtype)

    def waits_for_host(self, num_tokens: int) -> bool:
        """Whether the host must know numbers of the device to go on in a step of so many tokens."""
        mixtures = [module for module in self.modules() if isinstance(module, MoeFeedForward)]
        return any(mixture.waits_for_host(num_tokens) for mixture in mixtures)

    MAX_BATCH_INVARIANT_TOKENS = native.MAX_ROWS

    def reasons_against_batch_invariance(self) -> list[str]:
        """Why hidden() can give a token other bits in another batch; empty when it never does, in steps of at most
        MAX_BATCH_INVARIANT_TOKENS tokens."""
        reasons = reasons_against_native_attention(self.device, self.dtype, self.args.head_dim)
        if self.world.tp.size > 2:
            reasons.append(f"sums over {self.world.tp.size} ranks are added up in an order that depends on the batch")
        if any(size % 16 for size in (self.args.dim, self.args.hidden_dim)):
            reasons.append(
                f"dim and hidden_dim must be multiples of 16, not {self.args.dim} and {self.args.hidden_dim}"
            )
        return reasons

    def pack_weights(self) -> bool:
        """Copy the matrices into the layout that this CPU multiplies fastest, if there is memory for it.

        Takes up to about a second per GB.

        Returns:
            Whether anything was packed.
        """
        products = [
            (module.product, module.weight)
            for module in self.modules()
            if isinstance(module, Linear) and module.quantized is None
        ]
        if self.output is None:
            products.append((self.tok_embeddings.product, self.tok_embeddings.weight))
        free = free_bytes(self.device)
        nbytes = sum(weight.nbytes for _, weight in products)
        if not products or reasons_against_packing(products[0][1]) or free is None or nbytes > free // 2:
            return False
        for product, weight in products:
            product.pack(weight)
        return True
