"""The inner loop of products with few rows, which are as fast as the matrices can be read.

A program takes some rows of a matrix and all rows of x.  Nothing is divided along the columns: short matrices get fewer
rows per program instead, so every sum has one order.  Bits become numbers in registers; their scales are applied to sums
over the columns that share one.  Rows of x may be normed while they are read.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.quantized import QuantizedWeight
from mistral_local.kernels.triton import MAX_ROWS, num_processors
from mistral_local.kernels.triton.e4m3 import WIDENED, widen_e4m3
from mistral_local.kernels.triton.elementwise import normalize

LEAST_COLUMNS = 8
"""Rows of x are the columns of the right factor; the matrix units take this many at a time."""

TILE_NUMBERS = 4096
ROW_CHOICES = (8, 4, 2, 1)
"""Numbers of a matrix that a program reads in a step, and rows of the matrix that it takes, for one row of x."""

DOT_COLUMNS = 128
DOT_ROW_CHOICES = (64, 32, 16)
"""Columns of a step at most, and rows of the matrix, for several rows of x."""

PROGRAMS_PER_PROCESSOR = 2.0
PROGRAMS_OF_MANY_ROWS = 0.75
"""For each processor.  Every program reads all of x, which of more than MAX_ROWS rows is as much as its part of the matrix, so
that fewer are better."""

NUM_STAGES = tl.constexpr(4)
"""Steps whose reads are under way at the same time."""

SHARED_BYTES = 96 << 10
"""What these reads may take: the least that GPUs with bfloat16 have for a program, short of what the compiler adds."""

NORM_NUMBERS = tl.constexpr(4096)
"""Numbers of x that a program reads in a step to know the root mean squares."""


@triton.jit
def inverse_rms(x, x_row, is_x, eps, IN: tl.constexpr, ROWS: tl.constexpr, NORMED: tl.constexpr):
    """1 / root mean square of rows of x [.., IN] -> [ROWS] fp32; of use only where rows are normed."""
    rstd = tl.full([ROWS], 1.0, tl.float32)
    if NORMED:
        BLOCK: tl.constexpr = NORM_NUMBERS // ROWS
        squares = tl.zeros([ROWS, BLOCK], tl.float32)
        for start in tl.range(0, IN, BLOCK):
            column = start + tl.arange(0, BLOCK)
            is_number = is_x[:, None] & (column < IN)[None, :]
            wide = tl.load(x + x_row[:, None] * IN + column[None, :], mask=is_number, other=0.0).to(tl.float32)
            squares += wide * wide
        rstd = tl.rsqrt(tl.sum(squares, 1) / IN + eps)
    return rstd


@triton.jit
def read_rows(
    x, x_row, is_x, rstd, norm, column,
    IN: tl.constexpr, ROWS: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    """These columns of rows of x [.., IN], normed or not: of one row [1, K], of more [K, ROWS]."""
    is_column = column < IN
    if ROWS == 1:
        values = tl.load(x + x_row[:, None] * IN + column[None, :], mask=is_x[:, None] & is_column[None, :], other=0.0)
    else:
        values = tl.load(x + x_row[None, :] * IN + column[:, None], mask=is_x[None, :] & is_column[:, None], other=0.0)
    if NORMED:
        scale = tl.load(norm + column, mask=is_column, other=0.0)
        if ROWS == 1:
            values = normalize(values, rstd[:, None], scale[None, :])
        else:
            values = normalize(values, rstd[None, :], scale[:, None])
    return values


@triton.jit
def _products(numbers, values, ROWS: tl.constexpr):
    """numbers [N, K] with the same columns of one row of x -> [N, K], not added up; of more -> [N, ROWS]."""
    if ROWS == 1:
        found = numbers.to(tl.float32) * values.to(tl.float32)
    else:
        found = tl.dot(numbers.to(values.dtype), values, input_precision="ieee")
    return found


@triton.jit
def multiply(
    x, x_row, is_x, rstd, norm, w, scales, first, is_out,
    IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr, NORMED: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """BLOCK_N rows of w and scales times rows of x [.., IN] -> [BLOCK_N, ROWS] fp32.

    Args:
        x_row, is_x: [ROWS], which rows of x, and which of them there are.
        rstd, norm: [ROWS] as inverse_rms() gives them, and the weight of the norm.
        first, is_out: the first row of w, int64, and [BLOCK_N], which of those from there on there are.
        GROUP: columns that share a scale; IN or a power of two.
        FORMAT: of the bits, or "float".
        BLOCK_K: columns of a step; for several rows of x no more than GROUP if that is less than IN.
    """
    PER_BYTE: tl.constexpr = 2 if FORMAT == "int4" else 1
    WIDTH: tl.constexpr = BLOCK_K // PER_BYTE
    STORED: tl.constexpr = IN // PER_BYTE  # per row
    NUM_GROUPS: tl.constexpr = IN // GROUP
    SPANS: tl.constexpr = BLOCK_K // GROUP if BLOCK_K > GROUP and NUM_GROUPS > 1 else 1  # groups of a step
    w += first * STORED
    scales += first * NUM_GROUPS
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
            found = _products(low, read_rows(x, x_row, is_x, rstd, norm, column, IN, ROWS, NORMED), ROWS)
            found += _products(high, read_rows(x, x_row, is_x, rstd, norm, column + 16, IN, ROWS, NORMED), ROWS)
        else:
            values = read_rows(x, x_row, is_x, rstd, norm, place, IN, ROWS, NORMED)
            found = _products(widen_e4m3(stored) if FORMAT == "fp8" else stored, values, ROWS)
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
            total *= WIDENED
    return total


def can_read(weight: Tensor | QuantizedWeight, x: Tensor) -> bool:
    """Whether the kernels multiply x by this matrix, or by those of a stack, which need not follow each other."""
    if isinstance(weight, Tensor):
        return _is_dense(weight) and weight.dtype == x.dtype
    is_group = weight.group == weight.in_features or (weight.group >= 32 and weight.group.bit_count() == 1)
    return is_group and _is_dense(weight.data) and _is_dense(weight.scales)


def _is_dense(weight: Tensor) -> bool:
    return weight.is_contiguous() if weight.ndim == 2 else weight[0].is_contiguous()


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
    """Rows of x, and rows and columns of a matrix, that a program reads in a step, so that every processor has work.

    Args:
        num_out: rows of matrices that all programs together take.
    """
    per_processor = PROGRAMS_PER_PROCESSOR if num_rows <= MAX_ROWS else PROGRAMS_OF_MANY_ROWS
    wanted = per_processor * num_processors(x.device)
    choices = ROW_CHOICES if num_rows == 1 else DOT_ROW_CHOICES
    block_n = next((rows for rows in choices if num_out // rows >= wanted), choices[-1])
    rows = 1 if num_rows == 1 else max(LEAST_COLUMNS, triton.next_power_of_2(num_rows))
    in_features, group, _ = form(weight)
    block_k = TILE_NUMBERS // block_n
    if num_rows > 1:
        stored = weight if isinstance(weight, Tensor) else weight.data
        row_bytes = stored.shape[-1] * stored.element_size()
        step_bytes = (rows * in_features * x.element_size() + block_n * row_bytes) // in_features  # of a column
        block_k = DOT_COLUMNS
        while NUM_STAGES.value * block_k * step_bytes > SHARED_BYTES:
            block_k //= 2
        block_k = block_k if group == in_features else min(block_k, group)
    return {"ROWS": rows, "BLOCK_N": block_n, "BLOCK_K": max(32, min(block_k, triton.next_power_of_2(in_features)))}
