"""Kernels in Triton for GPUs, each beside its plain twin elsewhere in `kernels` or `attention`.

Off unless MISTRAL_LOCAL_TRITON=1: their numerics are tested in Triton's interpreter, but have not run on a GPU yet.
Import the modules of this package only where reasons_against_triton() has none: they need triton.
"""

import os
from functools import cache

import torch
from torch import Tensor

SWITCH = "MISTRAL_LOCAL_TRITON"
"""Set to 1 in the environment, the kernels serve CUDA devices; beside TRITON_INTERPRET=1 also the CPU, for tests."""

MAX_ROWS = 16
"""Products of more rows go to torch."""


def reasons_against_triton(device: torch.device) -> list[str]:
    """Why the kernels cannot serve a device; empty when they can."""
    if os.environ.get(SWITCH) != "1":
        return [f"{SWITCH}=1 is not set"]
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return [f"Triton's kernels run on CUDA only, not on {device.type}"]
    return [] if _can_import() else ["triton cannot be imported; pip install triton"]


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
def _can_import() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True
