"""Products of many rows with fp8 matrices as GPUs multiply them: fp8 by fp8, so that the rows of x are rounded too.

Off unless MISTRAL_LOCAL_FP8_ACTIVATIONS=1: rounding x costs more than rounding the weights did (docs/quantization.md).
"""

import os
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from mistral_local.kernels import triton

SWITCH = "MISTRAL_LOCAL_FP8_ACTIVATIONS"
"""Set to 1 in the environment, products of more than triton.MAX_ROWS_QUANTIZED rows with fp8 matrices round both sides."""

LEAST_CAPABILITY = (8, 9)
MULTIPLE = 16
"""What rows and columns of a matrix must be a multiple of."""


def reasons_against_scaled_product(x: Tensor, w: Tensor, w_scales: Tensor) -> list[str]:
    """Why x [T, in] and an fp8 matrix, as scaled_product() takes it, are multiplied in another way; empty when they are not."""
    if os.environ.get(SWITCH) != "1":
        return [f"{SWITCH}=1 is not set"]
    reasons = list(_reasons_against_device(x.device))
    if x.dtype != torch.bfloat16 or w.dtype != torch.float8_e4m3fn:
        reasons.append(f"it multiplies bfloat16 by fp8, not {x.dtype} by {w.dtype}")
    if w_scales.shape[1] != 1:
        reasons.append("every row of the matrix needs one scale")
    if w.shape[0] % MULTIPLE or w.shape[1] % MULTIPLE:
        reasons.append(f"rows and columns must be multiples of {MULTIPLE}, not {w.shape[0]} and {w.shape[1]}")
    if x.shape[0] <= triton.MAX_ROWS_QUANTIZED:
        reasons.append(f"{x.shape[0]} rows are few")
    return reasons


@cache
def _reasons_against_device(device: torch.device) -> tuple[str, ...]:
    if not hasattr(functional, "scaled_mm"):
        return (f"torch {torch.__version__} has no scaled_mm",)
    if device.type != "cuda":
        return (f"GPUs multiply fp8, not {device.type}",)
    capability = torch.cuda.get_device_capability(device)
    return () if capability >= LEAST_CAPABILITY else (f"compute capability 8.9 is needed, not {capability}",)


def scaled_product(x: Tensor, x_scales: Tensor, w: Tensor, w_scales: Tensor) -> Tensor:
    """x w^T, where each row of both has a scale.

    Args:
        x, w: [T, in] and [out, in] float8_e4m3fn, contiguous.
        x_scales, w_scales: [T, 1] and [out, 1] fp32.

    Returns:
        [T, out] bfloat16.
    """
    by_row = functional.ScalingType.RowWise
    # Without fast accumulation Hopper GPUs multiply rows with scales of their own far more slowly.
    y: Tensor = functional.scaled_mm(
        x, w.t(), x_scales, by_row, w_scales.t(), by_row, output_dtype=torch.bfloat16, use_fast_accum=True
    )
    return y
