"""Compare every kernel with torch on one GPU: `python -m mistral_local.kernels.triton.check cuda:0`.

Ends with 0 when all are right, which is then remembered (`proof`), or with 1 and a line that says which was not.  `0/4` behind the
device is the first of four parts, which remembers nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from mistral_local.config import QUANT_FORMATS, QuantFormat
from mistral_local.kernels.graph import GraphRecorder, reasons_against_graphs
from mistral_local.kernels.quantized import SCALE_BLOCK, QuantizedWeight, dequantize, quantize
from mistral_local.kernels.rms_norm import Normed, rms_norm_by_torch
from mistral_local.kernels.transfer import current
from mistral_local.kernels.triton import MAX_ROWS, elementwise, linear, moe, num_processors, product, route
from mistral_local.kernels.triton.check_attention import attention_groups
from mistral_local.kernels.triton.check_case import Case, Draw, Size
from mistral_local.kernels.triton.proof import remember

USUAL = Size(dim=4096, hidden=1792, heads=32, kv_heads=8, head_dim=128, context=1500, rows=(1, 3, 16, 32, 64))
"""A layer of Mistral 7B as one of eight ranks has it, so that little memory is needed.  Each of these rows has tiles of its own."""

EPS = 1e-5
Matrix = Tensor | QuantizedWeight


def cases(device: torch.device, dtype: torch.dtype, size: Size = USUAL) -> Iterator[Case]:
    """Every kernel beside torch; `dtype` is that of activations."""
    return chain.from_iterable(groups(device, dtype, size))


def groups(device: torch.device, dtype: torch.dtype, size: Size = USUAL) -> list[Iterator[Case]]:
    """The cases in groups, nothing of which is computed before it is looked at."""
    draw = Draw(device, dtype)
    found = [_norms_and_gate(draw, size), _tall_products(draw, size), *attention_groups(draw, size)]
    for quant_format in (None, *QUANT_FORMATS):
        for rows in size.rows:
            name = f"{quant_format or 'plain'} weights, {rows} rows"
            if quant_format is not None or rows <= MAX_ROWS:
                found.append(_products(name, draw, size, rows, quant_format))
            found.append(_experts(name, draw, size, rows, quant_format))
    if not reasons_against_graphs(device):
        found.append(_graphs(draw, size))
    return found


def _norms_and_gate(draw: Draw, size: Size) -> Iterator[Case]:
    x, added, weight = draw(5, size.dim, scale=3.0), draw(5, size.dim), draw(size.dim)
    yield Case("norm", elementwise.rms_norm(x, weight, EPS), rms_norm_by_torch(x, weight, EPS))
    total, normed = elementwise.add_rms_norm(x, added, weight, EPS)
    yield Case("sum", total, x + added)
    yield Case("norm of a sum", normed, rms_norm_by_torch(x + added, weight, EPS))
    wide = draw(5, 2 * size.hidden)
    yield Case("gate", elementwise.swiglu_(*wide.clone().chunk(2, dim=1)), _gated(*wide.float().chunk(2, dim=1)))


def _products(name: str, draw: Draw, size: Size, rows: int, quant_format: QuantFormat | None) -> Iterator[Case]:
    x, scale, residual = draw(rows, size.dim), draw(size.dim), draw(rows, size.hidden)
    stored = [_rounded(draw.matrix(size.hidden, size.dim), quant_format) for _ in range(3)]
    w1, w2, w3 = map(_in_floats, stored)
    for found, matrix in zip(linear.linears(x, stored), (w1, w2, w3), strict=True):
        yield Case(f"product, {name}", found, x.float() @ matrix.T)
    normed, by_torch = Normed(x, scale, EPS), rms_norm_by_torch(x, scale, EPS).float()
    yield Case(f"normed product, {name}", linear.linears(normed, stored[:1])[0], by_torch @ w1.T)
    yield Case(f"added product, {name}", linear.linears(x, stored[:1], residual)[0], residual + x.float() @ w1.T)
    yield Case(f"gated product, {name}", linear.gate_up(normed, *stored[:2]), _gated(by_torch @ w1.T, by_torch @ w2.T))


def _tall_products(draw: Draw, size: Size) -> Iterator[Case]:
    """Matrices so tall that each program takes the most rows: from 64 on Hopper GPUs have other instructions."""
    num_out = product.DOT_ROW_CHOICES[0] * ceil(product.PROGRAMS_PER_PROCESSOR * num_processors(draw.device))
    matrix = draw.matrix(num_out, max(2 * SCALE_BLOCK, size.dim // 8))
    rounded = {quant_format or "plain": _rounded(matrix, quant_format) for quant_format in (None, *QUANT_FORMATS)}
    for name, stored in (rounded | {"block-scaled fp8": _scaled_in_groups(matrix)}).items():
        for rows in size.rows[-3:]:
            x = draw(rows, matrix.shape[1])
            found = linear.linears(x, [stored])[0]
            yield Case(f"tall product, {name} weights, {rows} rows", found, x.float() @ _in_floats(stored).T)


def _experts(name: str, draw: Draw, size: Size, rows: int, quant_format: QuantFormat | None) -> Iterator[Case]:
    """Two of four experts each; the last of several rows is padding, and has none."""
    x, scale, gate, residual = draw(rows, size.dim), draw(size.dim), draw.matrix(4, size.dim), draw(rows, size.dim)
    is_token = torch.arange(rows, device=draw.device) < max(1, rows - 1)
    normed, weights, experts = route.route(Normed(x, scale, EPS), gate, 2, range(4), is_token)
    top = (normed.float() @ gate.float().T).topk(2).values.softmax(-1)
    # The kernel's logits are rounded to the dtype of x, as those of its twin are.
    yield Case(f"choice of experts, {name}", weights[is_token].to(draw.dtype), top[is_token])
    yield Case(f"experts of padding, {name}", (experts < 0).all(1).float(), (~is_token).float())
    w1, w3 = (_stack([draw.matrix(size.hidden, size.dim) for _ in range(4)], quant_format) for _ in range(2))
    w2 = _stack([draw.matrix(size.dim, size.hidden) for _ in range(4)], quant_format)
    found = moe.expert_down(moe.expert_gate_up(normed, experts, w1, w3), experts, weights, w2, residual)
    expected = residual.float()
    for expert in range(4):
        one, two, three = (_in_floats(_of(stack, expert)) for stack in (w1, w2, w3))
        share = torch.where(experts == expert, weights, 0).sum(1, keepdim=True)
        expected += share * (_gated(normed.float() @ one.T, normed.float() @ three.T) @ two.T)
    yield Case(f"sum of experts, {name}", found, expected)


def _graphs(draw: Draw, size: Size) -> Iterator[Case]:
    """A recorded product follows its input."""
    x, weight = draw(2, size.dim), draw.matrix(size.hidden, size.dim)
    linear.linears(x, [weight])
    replay = GraphRecorder().record(lambda: linear.linears(x, [weight])[0])
    for _ in range(2):
        x.copy_(draw(2, size.dim))
        yield Case("recorded product", replay(), x.float() @ weight.float().T)


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return silu(gate) * up


def _rounded(matrix: Tensor, quant_format: QuantFormat | None) -> Matrix:
    return matrix if quant_format is None else quantize(matrix, quant_format)


def _scaled_in_groups(matrix: Tensor) -> QuantizedWeight:
    """In fp8, with a scale for SCALE_BLOCK columns of a row, as published checkpoints are held."""
    rounded = quantize(matrix.reshape(-1, SCALE_BLOCK), "fp8")
    return QuantizedWeight(rounded.data.view(matrix.shape), rounded.scales.view(len(matrix), -1))


def _stack(matrices: list[Tensor], quant_format: QuantFormat | None) -> Matrix:
    if quant_format is None:
        return torch.stack(matrices)
    parts = [quantize(matrix, quant_format) for matrix in matrices]
    return QuantizedWeight(torch.stack([part.data for part in parts]), torch.stack([part.scales for part in parts]))


def _of(stack: Matrix, expert: int) -> Matrix:
    return stack[expert] if isinstance(stack, Tensor) else QuantizedWeight(stack.data[expert], stack.scales[expert])


def _in_floats(matrix: Matrix) -> Tensor:
    return matrix.float() if isinstance(matrix, Tensor) else dequantize(matrix, torch.float32)


class Wrong(NamedTuple):
    """A kernel that is not right."""

    name: str
    error: float

    def __str__(self) -> str:
        return f"{self.name}: off by {self.error:.2g} of the result"


def first_wrong(found: Iterator[Case]) -> Wrong | None:
    """The first case whose error is larger than rounding explains."""
    return next((Wrong(case.name, case.error) for case in found if not case.error <= case.tolerance), None)


def main(device_name: str, part: str = "0/1") -> int:
    """Check all kernels on a device, or a part of them; returns the exit code."""
    device = torch.device(device_name)
    first, num_parts = map(int, part.split("/"))
    with current(device), torch.inference_mode():
        mine = [group for dtype in (torch.bfloat16, torch.float16) for group in groups(device, dtype)][first::num_parts]
        wrong = first_wrong(chain.from_iterable(mine))
    if wrong is not None:
        print(wrong, file=sys.stderr)  # behind warnings
        return 1
    if num_parts == 1:
        remember(device)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
