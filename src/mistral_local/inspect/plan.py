"""How much memory each rank of a checkpoint takes, known from params.json and headers before anything is loaded.

Weights and KV cache are exact; what a step needs beside them, and what CUDA and NCCL keep for themselves, are estimates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path

import torch

from mistral_local.args import TransformerArgs
from mistral_local.config import KVDtype
from mistral_local.kvcache.storage import kv_bytes_per_token, storage_dtype
from mistral_local.model.transformer import Transformer
from mistral_local.parallel.place import Place
from mistral_local.parallel.rules import Sharding, reasons_against_tensor_parallel
from mistral_local.weights.checkpoint import open_checkpoint
from mistral_local.weights.compare import check_tensors
from mistral_local.weights.rounding import as_stored

STEP_TOKENS = 2048
"""Tokens of a step, as in EngineConfig."""

KV_SHARE = 0.9
"""Of what the weights leave free, as the engine takes it; the rest is for the step."""

CUDA_BYTES, NCCL_BYTES = 600_000_000, 600_000_000
"""What CUDA keeps for its context and kernels, and NCCL for its buffers; estimates."""

WEIGHT_BITS = {"int8 or fp8": 8.0, "int4": 4.25}
"""Bits per weight of the matrices inside the blocks with --quantize; the rest stays as the model computes."""

BLOCK_BITS = 8.25
"""Bits per weight of block-scaled fp8."""

NOT_DIVIDED = "files of quantized weights cannot be divided over several GPUs yet"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the machine.

    Attributes:
        gpu_bytes: memory of each GPU.
        context: tokens of each sequence, prompt and answer together.
        batch: sequences at the same time.
        kv_dtype: what keys and values are stored in, as in EngineConfig.
    """

    gpu_bytes: int
    context: int
    batch: int
    kv_dtype: KVDtype = "auto"


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of the fullest rank of a layout."""

    num_gpus: int
    num_stages: int
    weights: int
    kv_per_sequence: int
    step: int
    overhead: int

    @property
    def name(self) -> str:
        """TP 2, PP 2, TP 2 x PP 2."""
        tp_size = self.num_gpus // self.num_stages
        parts = [f"TP {tp_size}"] * (tp_size > 1) + [f"PP {self.num_stages}"] * (self.num_stages > 1)
        return " x ".join(parts) or "one GPU"

    def total(self, batch: int) -> int:
        """All of it, for so many sequences."""
        return self.overhead + self.weights + self.step + batch * self.kv_per_sequence

    def most_sequences(self, gpu_bytes: int) -> int:
        """How many sequences a GPU of this size holds at the same time; 0 when not one."""
        free = gpu_bytes - self.overhead - self.weights
        room = min(free - self.step, int(KV_SHARE * free))
        return max(0, room // self.kv_per_sequence)


class MemoryPlan:
    """The memory of one model in every layout.

    Args:
        dtype: what it computes in.
    """

    def __init__(self, args: TransformerArgs, question: Question, dtype: torch.dtype) -> None:
        self.args, self.question, self.dtype = args, question, dtype

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Published name -> shape of every tensor, before it is quantized."""
        in_floats = replace(self.args, quantization=None)
        with torch.device("meta"):
            return {name: slot.shape for name, slot in Transformer(in_floats).weight_slots().items()}

    @property
    def stored_bits(self) -> float | None:
        """Bits per weight of the matrices inside the blocks, if they are stored quantized."""
        quantization = self.args.quantization
        if quantization is None or quantization.qscheme_weight == "BLOCK":
            return None if quantization is None else BLOCK_BITS
        return WEIGHT_BITS["int4" if quantization.format == "int4" else "int8 or fp8"]

    @property
    def num_parameters(self) -> int:
        return sum(map(prod, self.shapes.values()))

    def need(self, num_gpus: int, num_stages: int, bits: float | None = None) -> Need:
        """What the fullest of these ranks takes.

        Args:
            bits: per weight of the matrices inside the blocks; None as they are stored.
        """
        bits = self.stored_bits if bits is None else bits
        tp_size = num_gpus // num_stages
        lasts = range(tp_size - 1, num_gpus, tp_size)  # of the ranks of a stage none holds more than the last
        ranks = [Sharding(self.args, Place(rank, num_gpus, num_stages)) for rank in lasts]
        return Need(
            num_gpus,
            num_stages,
            weights=max(self._weights(sharding, bits) for sharding in ranks),
            kv_per_sequence=max(self._kv(sharding) for sharding in ranks),
            step=self._step(ranks[0]),
            overhead=CUDA_BYTES + (NCCL_BYTES if num_gpus > 1 else 0),
        )

    def layouts(self, num_gpus: int, bits: float | None = None) -> Iterator[Need]:
        """Every layout of so many GPUs, most tensor parallel first."""
        if num_gpus > 1 and self.args.quantization is not None:
            return
        for num_stages in range(1, min(num_gpus, self.args.n_layers) + 1):
            tp_size, rest = divmod(num_gpus, num_stages)
            if not rest and not reasons_against_tensor_parallel(self.args, tp_size, expert_parallel=False):
                yield self.need(num_gpus, num_stages, bits)

    def why_not(self, num_gpus: int) -> str:
        """Why there is no layout of so many GPUs."""
        if self.args.quantization is not None:
            return NOT_DIVIDED
        return "; ".join(reasons_against_tensor_parallel(self.args, num_gpus, expert_parallel=False))

    def fits(self, need: Need) -> bool:
        """Whether a layout holds what is asked."""
        return need.most_sequences(self.question.gpu_bytes) >= self.question.batch

    def smallest(self, bits: float | None, most_gpus: int) -> Need | None:
        """The layout of fewest GPUs that holds what is asked, tensor parallel where it can be; None when none does."""
        layouts = (need for num_gpus in range(1, most_gpus + 1) for need in self.layouts(num_gpus, bits))
        return next(filter(self.fits, layouts), None)

    def _weights(self, sharding: Sharding, bits: float | None) -> int:
        nbytes = 0.0
        for name, shape in self.shapes.items():
            if sharding.holds(name):
                part = sharding.part(name, shape)
                is_matrix = len(shape) == 2 and name.startswith("layers.")
                own = bits if bits is not None and is_matrix else 8.0 * self.dtype.itemsize
                nbytes += prod(shape if part is None else part.shape(shape)) * own / 8
        return round(nbytes)

    def _kv(self, sharding: Sharding) -> int:
        """Of one sequence; a layer that slides keeps no more than its window and a step."""
        windows = [self.args.window(layer) for layer in sharding.place.layers(self.args.n_layers)]
        context = self.question.context
        kept = sum(context if window is None else min(context, window + STEP_TOKENS) for window in windows)
        return kept * kv_bytes_per_token(
            n_layers=1,
            n_kv_heads=len(sharding.place.part(self.args.n_kv_heads)),
            head_dim=self.args.head_dim,
            dtype=storage_dtype(self.question.kv_dtype, self.dtype),
        )

    def _step(self, sharding: Sharding) -> int:
        """Activations of a full step: the residual stream, the widest layer, the mask of a chunk, and logits."""
        args, tp_size = self.args, sharding.place.tp_size
        rows = STEP_TOKENS * (args.moe.num_experts_per_tok if args.moe else 1)
        feed_forward = rows * (2 * args.hidden_dim // tp_size + (2 * args.dim if args.moe else 0))
        attention = 2 * STEP_TOKENS * (args.n_heads + args.n_kv_heads) * args.head_dim // tp_size
        widest = 3 * STEP_TOKENS * args.dim + max(feed_forward, attention)
        mask = STEP_TOKENS * min(self.question.context, args.longest_window or self.question.context)
        return widest * self.dtype.itemsize + 3 * mask + 8 * self.question.batch * args.vocab_size


def stored_dtype(folder: Path, args: TransformerArgs) -> tuple[torch.dtype, str]:
    """What the weights are stored as, and how we know; checks names and shapes if they are there.

    Raises:
        WeightsError: the tensors are not those of params.json.
    """
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.pth")):
        return torch.bfloat16, "no weights in the folder yet; published ones are bfloat16"
    with torch.device("meta"):
        slots = Transformer(args).weight_slots()
    with open_checkpoint(folder, args) as checkpoint:
        check_tensors(checkpoint, as_stored(slots, checkpoint.tensors))
        return checkpoint.stored_dtype, "as stored"
