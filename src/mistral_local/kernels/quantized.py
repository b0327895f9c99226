"""Matrices of few bits per number, and products with them.

Weight-only: what is multiplied are the numbers that the bits stand for, in the dtype of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from mistral_local.config import QuantFormat
from mistral_local.kernels import native
from mistral_local.kernels.packed_linear import plain_linear
from mistral_local.kernels.scaled_product import reasons_against_scaled_product, scaled_product

INT4_GROUP = 128
"""Columns that share a scale in int4."""

SCALE_BLOCK = 128
"""Rows, and columns, that share a scale in published checkpoints of block-scaled fp8."""

COLUMNS_MULTIPLE = 32
"""A matrix whose rows are no multiple of this stays as it is."""

E4M3_MAX = 448.0
INT4_CLIPS = tuple(1 - 0.04 * step for step in range(11))
"""How much of the largest number of a group is kept, of which the one with the least squared error is taken."""

ROUNDED_NUMBERS = 1 << 20
"""On a CPU so many numbers are rounded at a time: rounding needs several copies of them in fp32, and the memory of large ones is
not always found again."""

MAX_ROWS_PACKED = 64
"""On a CPU, products of more rows than this unpack the matrix first."""


DATA_DTYPES: dict[QuantFormat, torch.dtype] = {"int8": torch.int8, "int4": torch.uint8, "fp8": torch.float8_e4m3fn}
BITS: dict[QuantFormat, int] = {"int8": 8, "int4": 4, "fp8": 8}


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A matrix [out, in], where w = q * scale of its row and group of columns; or several, with a dimension before.

    Attributes:
        data: q.  int8: [out, in] int8.  fp8: [out, in] float8_e4m3fn.  int4: [out, in / 2] uint8 holding q + 8 in 0 .. 15;
            of each 32 columns the lower halves of 16 bytes are the first 16, the upper halves the others.
        scales: [out, groups] fp32.
    """

    data: Tensor
    scales: Tensor

    @property
    def format(self) -> QuantFormat:
        return next(name for name, dtype in DATA_DTYPES.items() if dtype == self.data.dtype)

    @property
    def in_features(self) -> int:
        return self.data.shape[-1] * (2 if self.format == "int4" else 1)

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        return self.in_features // self.scales.shape[-1]


def num_groups(in_features: int, quant_format: QuantFormat) -> int:
    """How many scales quantize() gives a row."""
    return in_features // INT4_GROUP if quant_format == "int4" and in_features % INT4_GROUP == 0 else 1


def expand_scales(scales: Tensor, shape: tuple[int, int]) -> Tensor:
    """Scales of a matrix of this shape, of whatever part of it, as QuantizedWeight has them: [out, groups] fp32.

    Args:
        scales: of the whole matrix [] or [1], of its rows [out, 1], of groups of their columns [out, G], or of blocks of
            SCALE_BLOCK rows and columns, those at the edges smaller.
    """
    rows, columns = shape
    scales = scales.float()
    if scales.numel() == 1:
        return scales.reshape(1, 1).repeat(rows, 1)
    if scales.shape[0] != rows:
        scales = scales.repeat_interleave(SCALE_BLOCK, 0)[:rows]
    if columns % SCALE_BLOCK and scales.shape[1] > 1:  # equal groups that fit into the edge too
        num_groups = num_block_groups(columns)
        scales = scales.repeat_interleave(SCALE_BLOCK * num_groups // columns, 1)[:, :num_groups]
    return scales.contiguous()


def num_block_groups(columns: int) -> int:
    """Groups that each row has where scales belong to blocks."""
    return columns // gcd(columns, SCALE_BLOCK) if columns > SCALE_BLOCK else 1


def quantize(weight: Tensor, quant_format: QuantFormat) -> QuantizedWeight:
    """Round a matrix [out, in] to int8 or fp8 with a scale per row, or to int4 with a scale per INT4_GROUP columns.

    Args:
        weight: rows of a multiple of COLUMNS_MULTIPLE; int4 groups are as long as a row that INT4_GROUP does not divide.
            Where it is not finite, the scale is not either, so that it shows.
    """
    rows, columns = weight.shape
    data = weight.new_empty(rows, columns * BITS[quant_format] // 8, dtype=DATA_DTYPES[quant_format])
    scales = weight.new_empty(rows, num_groups(columns, quant_format), dtype=torch.float32)
    step = max(1, ROUNDED_NUMBERS // columns if weight.is_cpu else rows)
    for part, its_data, its_scales in zip(*(torch.split(each, step) for each in (weight, data, scales)), strict=True):
        rounded = _quantize_rows(part, quant_format)
        its_data.copy_(rounded.data)
        its_scales.copy_(rounded.scales)
    return QuantizedWeight(data, scales)


def _quantize_rows(weight: Tensor, quant_format: QuantFormat) -> QuantizedWeight:
    if quant_format == "int4":
        return _quantize_int4(weight)
    w = weight.float()
    largest = w.abs().amax(dim=1, keepdim=True)
    limit = 127.0 if quant_format == "int8" else E4M3_MAX
    scales = torch.where(largest == 0, 1.0, largest / limit)
    q = w / scales
    data = q.round().to(torch.int8) if quant_format == "int8" else q.to(torch.float8_e4m3fn)
    return QuantizedWeight(data, scales)


def _quantize_int4(weight: Tensor) -> QuantizedWeight:
    rows, columns = weight.shape
    group = columns // num_groups(columns, "int4")
    w = weight.float().view(rows, -1, group)
    largest = w.abs().amax(dim=2, keepdim=True)
    best = torch.full_like(largest, torch.inf)
    scales = torch.full_like(largest, torch.nan)
    for clip in INT4_CLIPS:
        tried = torch.where(largest == 0, 1.0, largest * clip / 7.5)
        error = (w - (w / tried).round_().clamp_(-8, 7).mul_(tried)).square_().sum(dim=2, keepdim=True)
        scales = torch.where(error < best, tried, scales)
        best = torch.minimum(best, error)
    q = (w / scales).round_().clamp_(-8, 7).add_(8).to(torch.uint8).view(rows, -1, 2, 16)
    return QuantizedWeight((q[:, :, 0] | q[:, :, 1] << 4).flatten(1), scales[:, :, 0].contiguous())


def dequantize(weight: QuantizedWeight, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in] that the bits stand for."""
    if weight.format == "int4":
        chunks = weight.data.view(weight.data.shape[0], -1, 1, 16)
        q = torch.cat([chunks & 15, chunks >> 4], dim=2).flatten(1).to(torch.int8).sub_(8)
    else:
        q = (
            weight.data if weight.format == "int8" else weight.data.to(dtype)
        )  # exact; torch multiplies fp8 by no other dtype
    out = torch.empty(q.shape, dtype=dtype, device=q.device)
    groups = (q.shape[0], weight.scales.shape[1], weight.group)
    # Multiplied in fp32 and rounded as it is written: no matrix in fp32 in between.
    torch.mul(q.view(groups), weight.scales[:, :, None], out=out.view(groups))
    return out


def quantized_linears(x: Tensor, weights: Sequence[QuantizedWeight]) -> list[Tensor]:
    """x [T, in] times the transpose of each weight [out, in]: [T, out] of each, in the dtype of x."""
    outputs = [x.new_empty(x.shape[0], weight.data.shape[0]) for weight in weights]
    quantized_products([(weight, x, y) for weight, y in zip(weights, outputs, strict=True)])
    return outputs


def quantized_products(products: Sequence[tuple[QuantizedWeight, Tensor, Tensor]]) -> None:
    """y = x w^T for each (w, x [T, in], y [T, out])."""
    x = products[0][1]
    kernels = _compiled(x)
    if kernels is None or any(rows.shape[0] > MAX_ROWS_PACKED for _, rows, _ in products):
        _many_rows(products)
        return
    kernels.multiply_quantized([(w.data, w.scales, rows.contiguous(), y, w.group) for w, rows, y in products])


def _many_rows(products: Sequence[tuple[QuantizedWeight, Tensor, Tensor]]) -> None:
    """One matrix after the other is unpacked, multiplied and forgotten, or multiplied in fp8; the host waits for nothing."""
    rounded: dict[int, QuantizedWeight] = {}  # of rows that several matrices share
    for weight, rows, y in products:
        if reasons_against_scaled_product(rows, weight.data, weight.scales):
            plain_linear(rows, _unpacked(weight, rows), y)
            continue
        if id(rows) not in rounded:
            rounded[id(rows)] = quantize(rows, "fp8")
        x = rounded[id(rows)]
        y.copy_(scaled_product(x.data, x.scales, weight.data, weight.scales))


def _unpacked(weight: QuantizedWeight, like: Tensor) -> Tensor:
    kernels = _compiled(like)
    if kernels is None:
        return dequantize(weight, like.dtype)
    return kernels.widen_quantized(weight.data, weight.scales, weight.in_features)


def _compiled(x: Tensor) -> native.QuantizedKernels | None:
    """The compiled kernels, if they serve products with x."""
    return native.quantized_kernels() if x.is_cpu and x.dtype is torch.bfloat16 else None
