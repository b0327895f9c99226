"""How we run a checkpoint: frozen configuration of the engine."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from mistral_local.errors import UsageError

Speculation = Literal["off", "ngram"]
"""How tokens are guessed ahead: not at all, or by n-gram lookup in what the sequence holds."""

QuantFormat = Literal["int8", "int4", "fp8"]
"""What the matrices inside the blocks are rounded to."""

QUANT_FORMATS: tuple[QuantFormat, ...] = get_args(QuantFormat)

KVDtype = Literal["auto", "fp8"]
"""What keys and values are stored in: the model's dtype, or fp8 (e4m3) with a scale per token and head."""

KV_DTYPES: tuple[KVDtype, ...] = get_args(KVDtype)

SandboxBackend = Literal["bubblewrap", "wasm"]

NGRAM_GUESSES = 8
"""Most guesses per step by n-gram lookup, for whoever names no number."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_AT_LEAST_ONE = (
    "max_num_seqs",
    "max_context",
    "max_num_batched_tokens",
    "max_prefill_chunk",
    "block_size",
    "max_waiting",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Limits of one engine.

    Attributes:
        max_num_seqs: most sequences that run at the same time; more wait.
        max_context: most tokens of one sequence, prompt and answer together.
        max_num_batched_tokens: token budget of one step; longer prompts are computed over several steps.
        max_prefill_chunk: most prompt tokens of one sequence per step; None leaves it to the budget.
        block_size: tokens per KV cache block.
        kv_memory_bytes: memory of the KV cache; None takes max_num_seqs * max_context, bounded by what is free.
        kv_dtype: what keys and values are stored in; "auto" is the model's dtype, "fp8" takes half of 16 bits and rounds them.
        max_waiting: most sequences that wait for their turn; more are refused.  None means any number.
        max_guesses: most tokens per sequence and step that are guessed from what it holds already, and verified in the
            same step; 0 speculates on nothing.  The answer is the same.
        overlap: plan a step while the one before it runs, where no sequence must know its last token first; None does so
            on a GPU.  The answer is the same.
        graphs: record steps that only decode as CUDA graphs where that is possible, so that one call queues each.
        deterministic: give each request the same tokens and logprobs, to the bit, whatever runs beside it and however
            it is chunked, cached or preempted; steps are kept small for it.

    Raises:
        UsageError: if a limit is not positive, or kv_dtype is none.
    """

    max_num_seqs: int
    max_context: int
    max_num_batched_tokens: int = 2048
    max_prefill_chunk: int | None = None
    block_size: int = 16
    kv_memory_bytes: int | None = None
    kv_dtype: KVDtype = "auto"
    max_waiting: int | None = None
    max_guesses: int = 0
    overlap: bool | None = None
    graphs: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        least_of = dict.fromkeys(_AT_LEAST_ONE, 1) | {"max_guesses": 0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name}: expected at least {least}, got {value}")
        check_kv_dtype(self.kv_dtype)


def check_kv_dtype(kv_dtype: str) -> None:
    """Refuse what keys and values cannot be stored in.

    Raises:
        UsageError: naming what they can.
    """
    if kv_dtype not in KV_DTYPES:
        raise UsageError(f"kv_dtype: expected {' or '.join(KV_DTYPES)}, got {kv_dtype!r}")


def parse_bytes(text: str | int) -> int:
    """Read a size such as 4GB, 500 MB or 1500000; units are powers of 1000.

    Raises:
        UsageError: if it is none, or not positive.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", str(text), re.IGNORECASE)
    size = round(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if size < 1:
        raise UsageError(f"expected a size such as 4GB or 500MB, got {str(text)!r}")
    return size
