"""Experts of few tokens: a matrix is read once if it is chosen, and not at all if it is not; nothing is sorted.

The experts of a single token are visited by its choices, those of several tokens one after the other, and passed over if
none chose them.  Gate and up projections have a row of programs for each visit; in the down projection a program makes
all visits and adds up what they give, so that the sum has one order.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.quantized import QuantizedWeight
from mistral_local.kernels.triton.elementwise import add, gated
from mistral_local.kernels.triton.product import bits_and_scales, block_sizes, form, multiply


@triton.jit
def _visit(experts, visit, num_tokens, PER_TOKEN: tl.constexpr, ROWS: tl.constexpr):
    """The expert of a visit, and which choice of each token fell on it, or -1: int64, [ROWS] int32."""
    m = tl.arange(0, ROWS)
    if ROWS == 1:
        expert = tl.load(experts + visit)
        pair = tl.where(expert >= 0, m + visit, -1)
    else:
        expert = visit + tl.full([], 0, tl.int64)
        pair = tl.full([ROWS], -1, tl.int32)
        for choice in tl.static_range(PER_TOKEN):
            chosen = tl.load(experts + m * PER_TOKEN + choice, mask=m < num_tokens, other=-1)
            pair = tl.where(chosen == expert, m * PER_TOKEN + choice, pair)
    return expert, pair


@triton.jit(do_not_specialize_on_alignment=["num_tokens"])
def _expert_gate_up(
    x, experts, num_tokens, w_1, w_3, scales_1, scales_3, y,
    PER_TOKEN: tl.constexpr, APART: tl.constexpr, OUT: tl.constexpr,
    IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    expert, pair = _visit(experts, tl.program_id(0), num_tokens, PER_TOKEN, ROWS)
    if tl.max(pair, 0) >= 0:
        out = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        first = expert * APART + tl.program_id(1) * BLOCK_N
        row, is_x, is_out = pair // PER_TOKEN, pair >= 0, out < OUT
        gate = multiply(
            x, row, is_x, is_x, x, w_1, scales_1, first, is_out, IN, GROUP, FORMAT, False, ROWS, BLOCK_N, BLOCK_K
        )
        up = multiply(
            x, row, is_x, is_x, x, w_3, scales_3, first, is_out, IN, GROUP, FORMAT, False, ROWS, BLOCK_N, BLOCK_K
        )
        result = gated(gate.to(y.dtype.element_ty), up.to(y.dtype.element_ty))
        tl.store(y + pair[None, :] * OUT + out[:, None], result, mask=is_out[:, None] & is_x[None, :])


def expert_gate_up(x: Tensor, experts: Tensor, w1: Tensor | QuantizedWeight, w3: Tensor | QuantizedWeight) -> Tensor:
    """silu(w1 x) * w3 x with the matrices of each token's experts; the host waits for nothing.

    Args:
        x: [T, in], of 1 to MAX_TOKENS_OF_EXPERTS rows.
        experts: [T, k] int64, which matrices of a stack, each at most once per token; -1 stands for none.
        w1, w3: [num_experts, hidden, in], of one form and layout, which can_read() takes.

    Returns:
        [T * k, hidden]; rows without an expert are not written.
    """
    x, (num_tokens, per_token) = x.contiguous(), experts.shape
    (bits_1, scales_1), (bits_3, scales_3) = bits_and_scales(w1), bits_and_scales(w3)
    num_experts, num_out, _ = bits_1.shape
    result = x.new_empty(num_tokens * per_token, num_out)
    blocks = block_sizes(w1, num_tokens, min(num_experts, num_tokens * per_token) * num_out, x)
    _expert_gate_up[_num_visits(experts, num_experts), triton.cdiv(num_out, blocks["BLOCK_N"])](
        x, experts, num_tokens, bits_1, bits_3, scales_1, scales_3, result,
        PER_TOKEN=per_token, APART=_rows_apart(bits_1), OUT=num_out, **form(w1)._asdict(), **blocks,
    )  # fmt: skip
    return result


@triton.jit(do_not_specialize_on_alignment=["num_tokens"])
def _expert_down(
    h, experts, weights, num_tokens, residual, w, scales, y,
    PER_TOKEN: tl.constexpr, VISITS: tl.constexpr, APART: tl.constexpr, OUT: tl.constexpr, ADDED: tl.constexpr,
    IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    out = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.arange(0, ROWS)
    total = tl.zeros([BLOCK_N, ROWS], tl.float32)
    for visit in tl.range(0, VISITS):
        expert, pair = _visit(experts, visit, num_tokens, PER_TOKEN, ROWS)
        if tl.max(pair, 0) >= 0:
            first, is_x = expert * APART + tl.program_id(0) * BLOCK_N, pair >= 0
            found = multiply(
                h, pair, is_x, is_x, h, w, scales, first, out < OUT, IN, GROUP, FORMAT, False, ROWS, BLOCK_N, BLOCK_K
            )
            weight = tl.load(weights + pair, mask=is_x, other=0.0).to(y.dtype.element_ty).to(tl.float32)
            weighted = found.to(y.dtype.element_ty).to(tl.float32) * weight[None, :]
            # Zeros times what is not finite would reach the tokens that did not choose this expert.
            total += tl.where(is_x[None, :], weighted.to(y.dtype.element_ty).to(tl.float32), 0.0)
    is_y = (out < OUT)[:, None] & (m < num_tokens)[None, :]
    at = m[None, :] * OUT + out[:, None]
    result = total.to(y.dtype.element_ty)
    if ADDED:
        result = add(tl.load(residual + at, mask=is_y, other=0.0), result)
    tl.store(y + at, result, mask=is_y)


def expert_down(
    h: Tensor, experts: Tensor, weights: Tensor, w2: Tensor | QuantizedWeight, residual: Tensor | None = None
) -> Tensor:
    """The sum over each token's experts of weight * w2 h; the host waits for nothing.

    Args:
        h: [T * k, hidden], a row for each choice.
        experts: [T, k] int64, as for expert_gate_up(); -1 adds nothing.
        weights: [T, k] fp32.
        w2: [num_experts, dim, hidden], which can_read() takes.
        residual: [T, dim], which the sum is added to.

    Returns:
        [T, dim].
    """
    num_tokens, per_token = experts.shape
    bits, scales = bits_and_scales(w2)
    num_experts, num_out, _ = bits.shape
    result = h.new_empty(num_tokens, num_out)
    blocks = block_sizes(w2, num_tokens, num_out, h)
    _expert_down[(triton.cdiv(num_out, blocks["BLOCK_N"]),)](
        h, experts, weights, num_tokens, h if residual is None else residual.contiguous(), bits, scales, result,
        PER_TOKEN=per_token, VISITS=_num_visits(experts, num_experts), APART=_rows_apart(bits), OUT=num_out,
        ADDED=residual is not None, **form(w2)._asdict(), **blocks,
    )  # fmt: skip
    return result


def _num_visits(experts: Tensor, num_experts: int) -> int:
    num_tokens, per_token = experts.shape
    return per_token if num_tokens == 1 else num_experts


def _rows_apart(stack: Tensor) -> int:
    """From the first row of an expert's matrix to that of the next."""
    return stack.stride(0) // stack.stride(1)
