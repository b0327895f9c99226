"""Linear layers on a CPU: from weights in oneDNN's own layout, or widened to what the CPU multiplies fast."""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import linear

from mistral_local.kernels.tensor_watch import TensorWatch

WIDE_NUMBERS = 1 << 22
"""So many numbers of a weight are widened at a time (16 MiB in fp32)."""


WIDE_FROM_ROWS = 16
"""Widening a weight takes as long as some rows of the slow product."""


@cache
def is_emulated(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of a dtype number by number, many times slower than fp32."""
    has_onednn = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if dtype == torch.bfloat16:
        return not (has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return not (has_onednn and torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return False


def plain_linear(x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """x times the transpose of a weight as it is stored; in fp32 where the CPU can only emulate the dtype.

    [T, in], [out, in] -> [T, out], written to `out` if it is given.
    """
    if x.is_cpu and x.shape[0] >= WIDE_FROM_ROWS and is_emulated(x.dtype):
        product = wide_linear(x, weight)
        return product if out is None else out.copy_(product)
    return linear(x, weight) if out is None else torch.mm(x, weight.t(), out=out)


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    """linear(x, weight), multiplied in fp32 and rounded once.

    On an AMD EPYC without AVX-512 (torch 2.13.0, bfloat16, 4096 by 1024, one thread) this took 0.95 of the time of torch's
    product for 16 rows, 0.36 for 64 and 0.16 for 512.
    """
    out = x.new_empty(x.shape[0], weight.shape[0])
    wide = x.float()
    num_rows = max(1, WIDE_NUMBERS // weight.shape[1])
    for rows, columns in zip(torch.split(weight, num_rows), torch.split(out, num_rows, dim=1), strict=True):
        columns.copy_(linear(wide, rows.float()))
    return out


def reasons_against_packing(weight: Tensor) -> list[str]:
    """Why a weight cannot be packed; empty when it can."""
    reasons = []
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        reasons.append(f"packing serves bfloat16 on a CPU, not {weight.dtype} on {weight.device.type}")
    elif not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        reasons.append("this build of torch has no oneDNN")
    elif not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        reasons.append("this CPU has no AVX-512, which oneDNN needs for bfloat16")
    if weight.is_inference():
        reasons.append("changes of an inference tensor cannot be noticed")
    return reasons


class LinearProduct:
    """x times the transpose of a weight that somebody else owns.

    The plain product reads the rows of the weight as they are stored.  Packed, it reads a copy in the blocks that
    oneDNN multiplies by, with the same result.  On two cores of an AMD EPYC with AVX-512 BF16 (torch 2.13.0, bfloat16,
    matrices of 256 to 32768 by 1024 or 3584) one product was 1.3 to 1.6 times as fast for 1 row, 1.0 to 1.6 for 2,
    1.4 to 1.9 for 4 to 16, and no slower for 512.  A weight that was changed or moved after packing is noticed,
    and multiplied as it is.  A CPU that can only emulate the dtype multiplies in fp32.
    """

    def __init__(self) -> None:
        self._packed: Tensor | None = None
        self._packed_from: TensorWatch | None = None

    def pack(self, weight: Tensor) -> None:
        """Copy a weight [out, in] for which reasons_against_packing() has none."""
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        self._packed_from = TensorWatch(weight)

    def __call__(self, x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """[T, in], [out, in] -> [T, out], written to `out` if it is given."""
        if self._packed_from is not None and self._packed_from.sees(weight):
            product = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
            return product if out is None else out.copy_(product)
        self._packed = self._packed_from = None
        return plain_linear(x, weight, out)
