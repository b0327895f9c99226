"""Experts of few tokens: a matrix is read once if it is chosen, and not at all if it is not.

Each choice of a single token has a row of programs.  Of several tokens every expert has one, which multiplies by all that
chose it and ends at once if none did; nothing is sorted.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.quantized import QuantizedWeight
from mistral_local.kernels.triton.linear import bits_and_scales, block_sizes, form, multiply


@triton.jit
def _expert_linears(
    x, experts, num_tokens, w_0, w_1, scales_0, scales_1, y_0, y_1,
    PER_TOKEN: tl.constexpr, PER_ROW: tl.constexpr, OUT: tl.constexpr,
    IN: tl.constexpr, GROUP: tl.constexpr, FORMAT: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(1)
    w, scales, y = w_0, scales_0, y_0
    if tl.program_id(2) == 1:
        w, scales, y = w_1, scales_1, y_1
    expert = tl.load(experts + tl.program_id(0)).to(tl.int32) if ROWS == 1 else tl.program_id(0) - 1
    m = tl.arange(0, ROWS)
    pair = tl.full([ROWS], -1, tl.int32)  # the choice of each token that fell on this expert
    for choice in tl.static_range(PER_TOKEN):
        chosen = tl.load(experts + m * PER_TOKEN + choice, mask=m < num_tokens, other=-2)
        pair = tl.where(chosen == expert, m * PER_TOKEN + choice, pair)
    if tl.max(pair, 0) >= 0:
        out = block * BLOCK_N + tl.arange(0, BLOCK_N)
        is_out = out < OUT
        total = tl.zeros([BLOCK_N, ROWS], tl.float32)
        if expert >= 0:
            first = expert.to(tl.int64) * OUT + block * BLOCK_N
            w += first * (IN // 2 if FORMAT == "int4" else IN)
            scales += first * (IN // GROUP)
            total = multiply(
                x, pair // PER_ROW, pair >= 0, w, scales, is_out, IN, GROUP, FORMAT, ROWS, BLOCK_N, BLOCK_K
            )
        # A token may have chosen no expert several times, so that one pair for each token does not tell all.
        for choice in tl.static_range(PER_TOKEN):
            chosen = tl.load(experts + m * PER_TOKEN + choice, mask=m < num_tokens, other=-2)
            at = y + (m * PER_TOKEN + choice)[None, :] * OUT + out[:, None]
            tl.store(at, total.to(y.dtype.element_ty), mask=is_out[:, None] & (chosen == expert)[None, :])


def expert_linears(x: Tensor, experts: Tensor, stacks: Sequence[Tensor | QuantizedWeight]) -> list[Tensor]:
    """Put rows of x through the matrices of their experts; the host waits for nothing.

    Args:
        x: [T, in], or [T * k, in] with a row for each choice.
        experts: [T, k] int64, which matrices of a stack, each at most once per token; -1 stands for none and gives zeros.
            T is 1 to MAX_ROWS.
        stacks: one or two of [num_experts, out, in], of equal shape and form, which linear.can_read() takes.

    Returns:
        [T * k, out] of each stack.
    """
    x, (num_tokens, per_token) = x.contiguous(), experts.shape
    bits, scales = zip(*(bits_and_scales(stack) for stack in stacks), strict=True)
    num_experts, num_out, _ = bits[0].shape
    results = [x.new_empty(num_tokens * per_token, num_out) for _ in stacks]
    num_read = min(num_experts, num_tokens * per_token) * num_out * len(stacks)
    blocks = block_sizes(stacks[0], num_tokens, num_read, x)
    num_rows = per_token if num_tokens == 1 else num_experts + 1  # and one for those that chose none
    _expert_linears[num_rows, triton.cdiv(num_out, blocks["BLOCK_N"]), len(stacks)](
        x, experts.contiguous(), num_tokens, bits[0], bits[-1], scales[0], scales[-1], results[0], results[-1],
        PER_TOKEN=per_token, PER_ROW=experts.numel() // x.shape[0], OUT=num_out, **form(stacks[0])._asdict(), **blocks,
    )  # fmt: skip
    return results
