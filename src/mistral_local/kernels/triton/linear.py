"""Products of few rows with matrices, which are as fast as the matrices can be read.

A program takes some rows of a matrix and all rows of x.  Nothing is divided along the columns: short matrices get fewer
rows per program instead, so every sum has one order.  Bits become numbers in registers; their scales are applied to sums
over the columns that share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.quantized import QuantizedWeight
from mistral_local.kernels.triton import num_processors

MAX_MATRICES = 3
"""Matrices that a launch can read."""

LEAST_COLUMNS = 8
"""Rows of x are the columns of the right factor; the matrix units take this many at a time."""

TILE_NUMBERS = 4096
ROW_CHOICES = (8, 4, 2, 1)
"""Numbers of a matrix that a program reads in a step, and rows of the matrix that it takes, for one row of x."""

DOT_COLUMNS = 128
DOT_ROW_CHOICES = (64, 32, 16)
"""Columns and rows of the matrix for several rows of x."""

PROGRAMS_PER_PROCESSOR = 2
NUM_STAGES = tl.constexpr(4)
"""Steps whose reads are under way at the same time."""


@triton.jit
def _widen(stored, FORMAT: tl.constexpr):
    """Bytes of fp8 become the bits of fp16, short of an exponent bias that 2^8 makes good."""
    if FORMAT == "fp8":
        bits = stored.to(tl.uint16)
        numbers = (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True)
    else:
        numbers = stored
    return numbers


@triton.jit
def _products(numbers, x, x_row, is_x, column, IN: tl.constexpr, ROWS: tl.constexpr):
    """numbers [N, K] of these columns with one row of x -> [N, K], not added up; with more -> [N, ROWS]."""
    is_column = column < IN
    if ROWS == 1:
        values = tl.load(x + x_row[:, None] * IN + column[None, :], mask=is_x[:, None] & is_column[None, :], other=0.0)
        found = numbers.to(tl.float32) * values.to(tl.float32)
    else:
        values = tl.load(x + x_row[None, :] * IN + column[:, None], mask=is_x[None, :] & is_column[:, None], other=0.0)
        found = tl.dot(numbers.to(values.dtype), values, input_precision="ieee")
    return found


@triton.jit
def multiply(
    x, x_row, is_x, w, scales, is_out,
    IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The first BLOCK_N rows of w and scales times these rows of x [.., IN] -> [BLOCK_N, ROWS] fp32.

    Args:
        x_row, is_x: [ROWS], which rows of x, and which of them there are.
        is_out: [BLOCK_N], which rows of w there are.
        GROUP: columns that share a scale; IN or a power of two.
        FORMAT: of the bits, or "float".
        BLOCK_K: columns of a step; for several rows of x no more than GROUP if that is less than IN.
    """
    PER_BYTE: tl.constexpr = 2 if FORMAT == "int4" else 1
    WIDTH: tl.constexpr = BLOCK_K // PER_BYTE
    STORED: tl.constexpr = IN // PER_BYTE  # per row
    NUM_GROUPS: tl.constexpr = IN // GROUP
    SPANS: tl.constexpr = BLOCK_K // GROUP if BLOCK_K > GROUP and NUM_GROUPS > 1 else 1  # groups of a step
    n = tl.arange(0, BLOCK_N)
    if ROWS > 1:
        total = tl.zeros([BLOCK_N, ROWS], tl.float32)
    elif NUM_GROUPS > 1:
        total = tl.zeros([BLOCK_N, SPANS], tl.float32)
    else:
        total = tl.zeros([BLOCK_N, WIDTH], tl.float32)
    for start in tl.range(0, IN, BLOCK_K, num_stages=NUM_STAGES):
        place = start // PER_BYTE + tl.arange(0, WIDTH)
        is_stored = is_out[:, None] & (place < STORED)[None, :]
        stored = tl.load(w + n[:, None] * STORED + place[None, :], mask=is_stored, other=0)
        if FORMAT == "int4":
            column = place // 16 * 32 + place % 16
            low, high = (stored & 15).to(tl.int8) - 8, (stored >> 4).to(tl.int8) - 8
            found = _products(low, x, x_row, is_x, column, IN, ROWS)
            found += _products(high, x, x_row, is_x, column + 16, IN, ROWS)
        else:
            found = _products(_widen(stored, FORMAT), x, x_row, is_x, place, IN, ROWS)
        if NUM_GROUPS > 1:
            if ROWS == 1:
                found = tl.sum(tl.reshape(found, [BLOCK_N, SPANS, WIDTH // SPANS]), 2)
            group = start // GROUP + tl.arange(0, SPANS)
            is_scale = is_out[:, None] & (group < NUM_GROUPS)[None, :]
            found *= tl.load(scales + n[:, None] * NUM_GROUPS + group[None, :], mask=is_scale, other=0.0)
        total += found
    if ROWS == 1:
        total = tl.sum(total, 1, keep_dims=True)
    if FORMAT != "float":
        if NUM_GROUPS == 1:
            total *= tl.load(scales + n, mask=is_out, other=0.0)[:, None]
        if FORMAT == "fp8":
            total *= 256.0
    return total


@triton.jit
def _linears(
    x, num_rows, w_0, w_1, w_2, scales_0, scales_1, scales_2, y_0, y_1, y_2,
    OUT_0: tl.constexpr, OUT_1: tl.constexpr, OUT_2: tl.constexpr,
    IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    BLOCKS_0: tl.constexpr = (OUT_0 + BLOCK_N - 1) // BLOCK_N
    BLOCKS_1: tl.constexpr = BLOCKS_0 + (OUT_1 + BLOCK_N - 1) // BLOCK_N
    block = tl.program_id(0)
    w, scales, y, num_out, first_block = w_0, scales_0, y_0, OUT_0, 0
    if block >= BLOCKS_0:
        w, scales, y, num_out, first_block = w_1, scales_1, y_1, OUT_1, BLOCKS_0
    if block >= BLOCKS_1:
        w, scales, y, num_out, first_block = w_2, scales_2, y_2, OUT_2, BLOCKS_1
    first = (block - first_block) * BLOCK_N
    PER_BYTE: tl.constexpr = 2 if FORMAT == "int4" else 1
    w += first.to(tl.int64) * (IN // PER_BYTE)
    scales += first * (IN // GROUP)
    out = first + tl.arange(0, BLOCK_N)
    m = tl.arange(0, ROWS)
    total = multiply(x, m, m < num_rows, w, scales, out < num_out, IN, GROUP, FORMAT, ROWS, BLOCK_N, BLOCK_K)
    is_y = (out < num_out)[:, None] & (m < num_rows)[None, :]
    tl.store(y + m[None, :] * num_out + out[:, None], total.to(y.dtype.element_ty), mask=is_y)


def can_read(weight: Tensor | QuantizedWeight, x: Tensor) -> bool:
    """Whether the kernels multiply x by this matrix, or stack of matrices."""
    if isinstance(weight, Tensor):
        return weight.is_contiguous() and weight.dtype == x.dtype
    is_group = weight.group == weight.in_features or (weight.group >= 32 and weight.group.bit_count() == 1)
    return is_group and weight.data.is_contiguous() and weight.scales.is_contiguous()


def linears(x: Tensor, weights: Sequence[Tensor | QuantizedWeight]) -> list[Tensor]:
    """x [T, in], of 1 to MAX_ROWS rows, times the transpose of each weight [out, in] that can_read() takes: [T, out] of each."""
    if len(weights) > MAX_MATRICES or len({form(weight) for weight in weights}) > 1:
        return [linears(x, [weight])[0] for weight in weights]
    x, num_rows = x.contiguous(), x.shape[0]
    bits, scales = zip(*(bits_and_scales(weight) for weight in weights), strict=True)
    outs = [b.shape[0] for b in bits]
    results = [x.new_empty(num_rows, out) for out in outs]
    blocks = block_sizes(weights[0], num_rows, sum(outs), x)
    _linears[(sum(triton.cdiv(out, blocks["BLOCK_N"]) for out in outs),)](
        x, num_rows, *_three(bits, bits[0]), *_three(scales, scales[0]), *_three(results, results[0]), *_three(outs, 0),
        **form(weights[0])._asdict(), **blocks,
    )  # fmt: skip
    return results


class Form(NamedTuple):
    """What matrices of one launch have in common, as the kernels name it."""

    IN: int
    GROUP: int
    FORMAT: str


def form(weight: Tensor | QuantizedWeight) -> Form:
    """The form of a matrix, or of the matrices of a stack."""
    if isinstance(weight, Tensor):
        return Form(weight.shape[-1], weight.shape[-1], "float")
    return Form(weight.in_features, weight.group, weight.format)


def bits_and_scales(weight: Tensor | QuantizedWeight) -> tuple[Tensor, Tensor]:
    """What the kernels read; they do not look at the scales of floats."""
    if isinstance(weight, Tensor):
        return weight, weight
    return weight.data.view(torch.uint8) if weight.format == "fp8" else weight.data, weight.scales


def block_sizes(weight: Tensor | QuantizedWeight, num_rows: int, num_out: int, x: Tensor) -> dict[str, int]:
    """Rows of x, and rows and columns of a matrix, that a program reads in a step, so that every processor has work."""
    wanted = PROGRAMS_PER_PROCESSOR * num_processors(x.device)
    choices = ROW_CHOICES if num_rows == 1 else DOT_ROW_CHOICES
    block_n = next((rows for rows in choices if num_out // rows >= wanted), choices[-1])
    _, group, _ = matrix = form(weight)
    block_k = TILE_NUMBERS // block_n
    if num_rows > 1:
        block_k = DOT_COLUMNS // 2 if x.dtype == torch.float32 else DOT_COLUMNS
        block_k = block_k if group == matrix.IN else min(block_k, group)
    rows = 1 if num_rows == 1 else max(LEAST_COLUMNS, triton.next_power_of_2(num_rows))
    return {"ROWS": rows, "BLOCK_N": block_n, "BLOCK_K": max(32, min(block_k, triton.next_power_of_2(matrix.IN)))}


def _three(items: Sequence[Any], filler: Any) -> list[Any]:
    return [*items, *[filler] * (MAX_MATRICES - len(items))]
