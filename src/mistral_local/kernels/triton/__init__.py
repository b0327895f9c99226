"""Kernels in Triton for GPUs, each beside its plain twin elsewhere in `kernels` or `attention`.

They serve a GPU on which `proof` has seen them to be right.
Import the modules of this package only where reasons_against_triton() has none: they need triton.
"""

import os
from functools import cache

import torch
from torch import Tensor

from mistral_local.kernels.triton.proof import is_proven, reasons_against_trust

SWITCH = "MISTRAL_LOCAL_TRITON"
"""In the environment: 0 turns the kernels off, 1 trusts them without a proof; beside TRITON_INTERPRET=1 also on the CPU, for
tests."""

MAX_ROWS = 16
"""Of a product with plain matrices; torch's are as fast with more.  So many rows are normed, and summed up, by the products."""

LEAST_CAPABILITY = (8, 0)
"""Of GPUs whose matrix units take bfloat16."""

MAX_ROWS_QUANTIZED = 64
"""Of a product with quantized matrices, which torch would unpack first."""

MAX_TOKENS_OF_EXPERTS = 64
"""That go through experts, plain or quantized, of which each has few of them."""


def reasons_against_triton(device: torch.device) -> list[str]:
    """Why the kernels cannot serve a device; empty when they can.  On a GPU that nobody has checked them on, checks first."""
    switch = os.environ.get(SWITCH, "")
    if switch == "0":
        return [f"{SWITCH}=0 is set"]
    is_test = switch == "1" and os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not is_test:
        return [f"Triton's kernels run on CUDA only, not on {device.type}"]
    if not _can_import():
        return ["triton cannot be imported; pip install triton"]
    if switch == "1":
        return []
    if _capability(device) < LEAST_CAPABILITY:
        return [f"Triton's kernels need compute capability {'.'.join(map(str, LEAST_CAPABILITY))}"]
    return reasons_against_trust(device)


def is_check_due(device: torch.device) -> bool:
    """Whether reasons_against_triton() will take minutes."""
    may_serve = device.type == "cuda" and SWITCH not in os.environ and _can_import()
    return may_serve and _capability(device) >= LEAST_CAPABILITY and not is_proven(device)


def serves(x: Tensor, *, max_rows: int | None = None) -> bool:
    """Whether the kernels take a step with x [T, ...]; some only steps of few rows."""
    if max_rows is not None and not 0 < x.shape[0] <= max_rows:
        return False
    return not reasons_against_triton(x.device)


@cache
def num_processors(device: torch.device) -> int:
    """How many programs a device runs at the same time, at least."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@cache
def _can_import() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True
