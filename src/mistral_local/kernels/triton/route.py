"""Which experts a token goes to: norm, gate, choice and softmax in one kernel, a program for each token."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.rms_norm import Normed, rows_of
from mistral_local.kernels.triton.linear import norm_of
from mistral_local.kernels.triton.product import inverse_rms, read_rows

GATE_NUMBERS = 8192
"""Numbers of the gate that a program reads in a step."""


@triton.jit
def _route(
    x, norm, eps, gate, is_token, normed, weights, experts, MASKED: tl.constexpr,
    FIRST: tl.constexpr, NUM_HELD: tl.constexpr, NUM_EXPERTS: tl.constexpr, PER_TOKEN: tl.constexpr,
    IN: tl.constexpr, NORMED: tl.constexpr, EXPERTS: tl.constexpr, CHOICES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    x_row = token + tl.arange(0, 1)
    is_x = x_row >= 0
    rstd = inverse_rms(x, x_row, is_x, eps, IN, 1, NORMED)
    e = tl.arange(0, EXPERTS)
    is_expert = e < NUM_EXPERTS
    total = tl.zeros([EXPERTS, BLOCK], tl.float32)
    for start in tl.range(0, IN, BLOCK):
        column = start + tl.arange(0, BLOCK)
        is_column = column < IN
        values = read_rows(x, x_row, is_x, rstd, norm, column, IN, 1, NORMED)
        if NORMED:
            tl.store(normed + x_row[:, None] * IN + column[None, :], values, mask=is_column[None, :])
        is_number = is_expert[:, None] & is_column[None, :]
        numbers = tl.load(gate + e[:, None] * IN + column[None, :], mask=is_number, other=0.0)
        total += numbers.to(tl.float32) * values.to(tl.float32)
    logits = tl.sum(total, 1).to(x.dtype.element_ty).to(tl.float32)
    logits = tl.where(is_expert, logits, float("-inf"))
    c = tl.arange(0, CHOICES)
    top, chosen = tl.full([CHOICES], float("-inf"), tl.float32), tl.zeros([CHOICES], tl.int32)
    for choice in tl.static_range(PER_TOKEN):
        largest = tl.max(logits, 0)
        # The first of equals; of numbers that are none, one that there is.
        best = tl.min(tl.where((logits == largest) & is_expert, e, NUM_EXPERTS - 1), 0)
        top, chosen = tl.where(c == choice, largest, top), tl.where(c == choice, best, chosen)
        logits = tl.where(e == best, float("-inf"), logits)
    shares = tl.exp(top - tl.max(top, 0))
    held = chosen - FIRST
    held = tl.where((held >= 0) & (held < NUM_HELD), held, -1)
    if MASKED:
        held = tl.where(tl.load(is_token + token) != 0, held, -1)
    at = token * PER_TOKEN + c
    tl.store(weights + at, shares / tl.sum(shares, 0), mask=c < PER_TOKEN)
    tl.store(experts + at, held.to(tl.int64), mask=c < PER_TOKEN)


def route(
    x: Tensor | Normed, gate: Tensor, num_chosen: int, held: range, is_token: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose experts by the gate's logits, as model.moe.route; of equal logits the first.

    Args:
        x: [T, dim].
        gate: [num_experts, dim], same dtype, contiguous.
        held: the experts that are here.
        is_token: [T] bool, which rows choose experts; None means all.

    Returns:
        x [T, dim], normed; weights [T, num_chosen] fp32, which add up to 1; and experts [T, num_chosen] int64, counted
        from the first that is held, and -1 for those that are not, and in rows that are no tokens.
    """
    rows = rows_of(x).contiguous()
    num_tokens, dim = rows.shape
    normed = torch.empty_like(rows) if isinstance(x, Normed) else rows
    weights = torch.empty(num_tokens, num_chosen, dtype=torch.float32, device=rows.device)
    experts = torch.empty(num_tokens, num_chosen, dtype=torch.int64, device=rows.device)
    padded = triton.next_power_of_2(gate.shape[0])
    _route[(num_tokens,)](
        rows, *norm_of(x), gate, rows if is_token is None else is_token.view(torch.uint8), normed, weights, experts,
        MASKED=is_token is not None,
        FIRST=held.start, NUM_HELD=len(held), NUM_EXPERTS=gate.shape[0], PER_TOKEN=num_chosen,
        IN=dim, NORMED=isinstance(x, Normed), EXPERTS=padded, CHOICES=triton.next_power_of_2(num_chosen),
        BLOCK=max(16, GATE_NUMBERS // padded),
    )  # fmt: skip
    return normed, weights, experts
