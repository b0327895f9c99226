"""Linear layers of few rows: every matrix of a launch is read once, and what stands before and after it costs no launch.

Before a product x may be normed, which of up to MAX_ROWS rows each program does for itself; after it a residual may be added, or the gate of
a feed-forward layer applied.  Rounding is that of the plain twins, step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.quantized import QuantizedWeight
from mistral_local.kernels.rms_norm import Normed, rows_of
from mistral_local.kernels.triton import MAX_ROWS
from mistral_local.kernels.triton.elementwise import add, gated, rms_norm, swiglu_
from mistral_local.kernels.triton.product import bits_and_scales, block_sizes, form, inverse_rms, multiply

MAX_MATRICES = 3
"""Matrices that a launch can read."""


# Multiples of 16 rows are compiled as others are.
@triton.jit(do_not_specialize_on_alignment=["num_rows"])
def _linears(
    x, num_rows, norm, eps, residual,
    w_0, w_1, w_2, scales_0, scales_1, scales_2, y_0, y_1, y_2,
    OUT_0: tl.constexpr, OUT_1: tl.constexpr, OUT_2: tl.constexpr, ADDED: tl.constexpr,
    IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr, NORMED: tl.constexpr,
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
    out = first + tl.arange(0, BLOCK_N)
    m = tl.arange(0, ROWS)
    rstd = inverse_rms(x, m, m < num_rows, eps, IN, ROWS, NORMED)
    total = multiply(
        x, m, m < num_rows, rstd, norm, w, scales, first.to(tl.int64), out < num_out,
        IN, GROUP, FORMAT, NORMED, ROWS, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    is_y = (out < num_out)[:, None] & (m < num_rows)[None, :]
    at = m[None, :] * num_out + out[:, None]
    result = total.to(y.dtype.element_ty)
    if ADDED:
        result = add(tl.load(residual + at, mask=is_y, other=0.0), result)
    tl.store(y + at, result, mask=is_y)


def linears(
    x: Tensor | Normed, weights: Sequence[Tensor | QuantizedWeight], residual: Tensor | None = None
) -> list[Tensor]:
    """x [T, in], of 1 to MAX_ROWS_QUANTIZED rows, times the transpose of each weight [out, in] that can_read() takes: [T, out] of each.

    Args:
        residual: [T, out], which the product of a single weight is added to.
    """
    assert residual is None or len(weights) == 1
    if len(weights) > MAX_MATRICES or len({form(weight) for weight in weights}) > 1:
        return [linears(x, [weight])[0] for weight in weights]
    x = _normed_once(x)
    rows = rows_of(x).contiguous()
    bits, scales = zip(*(bits_and_scales(weight) for weight in weights), strict=True)
    outs = [b.shape[0] for b in bits]
    results = [rows.new_empty(rows.shape[0], out) for out in outs]
    blocks = block_sizes(weights[0], rows.shape[0], sum(outs), rows)
    _linears[(sum(triton.cdiv(out, blocks["BLOCK_N"]) for out in outs),)](
        rows, rows.shape[0], *norm_of(x), rows if residual is None else residual.contiguous(),
        *_three(bits, bits[0]), *_three(scales, scales[0]), *_three(results, results[0]), *_three(outs, 0),
        ADDED=residual is not None, **form(weights[0])._asdict(), NORMED=isinstance(x, Normed), **blocks,
    )  # fmt: skip
    return results


@triton.jit(do_not_specialize_on_alignment=["num_rows"])
def _gate_up(
    x, num_rows, norm, eps, w_1, w_3, scales_1, scales_3, y,
    OUT: tl.constexpr, IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr, NORMED: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * BLOCK_N
    out = first + tl.arange(0, BLOCK_N)
    m = tl.arange(0, ROWS)
    is_x, is_out = m < num_rows, out < OUT
    rstd = inverse_rms(x, m, is_x, eps, IN, ROWS, NORMED)
    gate = multiply(
        x, m, is_x, rstd, norm, w_1, scales_1, first, is_out, IN, GROUP, FORMAT, NORMED, ROWS, BLOCK_N, BLOCK_K
    )
    up = multiply(
        x, m, is_x, rstd, norm, w_3, scales_3, first, is_out, IN, GROUP, FORMAT, NORMED, ROWS, BLOCK_N, BLOCK_K
    )
    result = gated(gate.to(y.dtype.element_ty), up.to(y.dtype.element_ty))
    tl.store(y + m[None, :] * OUT + out[:, None], result, mask=is_out[:, None] & is_x[None, :])


def gate_up(x: Tensor | Normed, w1: Tensor | QuantizedWeight, w3: Tensor | QuantizedWeight) -> Tensor:
    """silu(w1 x) * w3 x for x [T, in], of 1 to MAX_ROWS_QUANTIZED rows, and matrices [hidden, in]: [T, hidden]."""
    if form(w1) != form(w3):
        return swiglu_(*linears(x, [w1, w3]))
    x = _normed_once(x)
    rows, num_out = rows_of(x).contiguous(), bits_and_scales(w1)[0].shape[0]
    (bits_1, scales_1), (bits_3, scales_3) = bits_and_scales(w1), bits_and_scales(w3)
    result = rows.new_empty(rows.shape[0], num_out)
    blocks = block_sizes(w1, rows.shape[0], num_out, rows)
    _gate_up[(triton.cdiv(num_out, blocks["BLOCK_N"]),)](
        rows, rows.shape[0], *norm_of(x), bits_1, bits_3, scales_1, scales_3, result,
        OUT=num_out, **form(w1)._asdict(), NORMED=isinstance(x, Normed), **blocks,
    )  # fmt: skip
    return result


def _normed_once(x: Tensor | Normed) -> Tensor | Normed:
    """Few rows are normed by every program for itself, which spares a launch; more once, before."""
    return rms_norm(*x) if isinstance(x, Normed) and x.x.shape[0] > MAX_ROWS else x


def norm_of(x: Tensor | Normed) -> tuple[Tensor, float]:
    """Weight and eps of the norm that a launch applies; without one it does not look at them."""
    return (x.weight, x.eps) if isinstance(x, Normed) else (x, 0.0)


def _three(items: Sequence[Any], filler: Any) -> list[Any]:
    return [*items, *[filler] * (MAX_MATRICES - len(items))]
