"""The sparse mixture-of-experts feed-forward layer of Mixtral."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.kernels import triton
from mistral_local.kernels.grouped_linear import grouped_linear
from mistral_local.kernels.quantized import QuantizedWeight
from mistral_local.kernels.swiglu import swiglu
from mistral_local.model.feed_forward import FeedForward
from mistral_local.model.linear import Linear, grouped_linears

NO_EXPERT = -1
"""In place of an expert's number."""


class MoeFeedForward(nn.Module):
    """Each token goes through its top-k experts, weighted by the softmax over those k logits (arXiv:2401.04088, 2.1).

    Tokens are sorted by expert, so that each expert is one product over its own rows.  On CUDA all experts are one
    grouped product and the host never learns who goes where, unless they are quantized.  Triton's kernels take steps of few
    tokens unsorted.

    Where only some experts are held (`hold`), the result is their share of the sum.
    """

    def __init__(self, args: TransformerArgs, moe: MoeArgs) -> None:
        super().__init__()
        self.num_experts_per_tok = moe.num_experts_per_tok
        self.gate = Linear(args.dim, moe.num_experts)
        self.experts = nn.ModuleList([FeedForward(args) for _ in range(moe.num_experts)])
        self.num_experts = moe.num_experts
        self.first_held = 0
        self._stacks: dict[tuple[str, str], Tensor] = {}

    def hold(self, experts: range) -> None:
        """Keep these experts only; they keep their numbers."""
        for number in set(range(self.num_experts)) - set(experts):
            delattr(self.experts, str(number))
        self.first_held = experts.start

    def forward(self, x: Tensor, is_token: Tensor | None = None) -> Tensor:
        """[T, dim] -> [T, dim]; rows that are no tokens choose no expert."""
        k = self.num_experts_per_tok
        weights, experts = route(self.gate(x), k)
        experts = self._numbers_here(experts, is_token)
        mixed = self._by_pairs(x, experts) if triton.serves(x, max_rows=triton.MAX_ROWS) else None
        if mixed is None:
            mixed = self._sorted(x, experts)
        return (mixed.view(-1, k, x.shape[-1]) * weights[..., None].to(x.dtype)).sum(1)

    def waits_for_host(self, num_tokens: int) -> bool:
        """Whether a step of so many tokens reads on the host who goes where."""
        weight = self.gate.weight
        are_few = num_tokens <= triton.MAX_ROWS and not triton.reasons_against_triton(weight.device)
        return not are_few and not self._is_one_product(weight.is_cuda, weight.dtype)

    def _numbers_here(self, experts: Tensor, is_token: Tensor | None) -> Tensor:
        """[T, k] numbers of experts -> [T, k] which of the experts that are held, or NO_EXPERT."""
        if len(self.experts) < self.num_experts:
            experts = experts - self.first_held
            experts = experts.where((experts >= 0) & (experts < len(self.experts)), NO_EXPERT)
        return experts if is_token is None else experts.where(is_token[:, None], NO_EXPERT)

    def _is_one_product(self, on_cuda: bool, dtype: torch.dtype) -> bool:
        """Whether one kernel multiplies the sorted rows by all experts."""
        return on_cuda and all(parameter.dtype == dtype for parameter in self.experts.parameters())

    def _by_pairs(self, x: Tensor, experts: Tensor) -> Tensor | None:
        """[T, dim], [T, k] -> [T * k, dim], 0 where there is no expert; None if Triton cannot read the experts."""
        from mistral_local.kernels.triton.linear import can_read
        from mistral_local.kernels.triton.moe import expert_linears

        w1, w2, w3 = (self._matrices(name) for name in ("w1", "w2", "w3"))
        if not all(can_read(matrices, x) for matrices in (w1, w2, w3)):
            return None
        gate, up = expert_linears(x, experts, [w1, w3])
        return expert_linears(swiglu(gate, up), experts, [w2])[0]

    def _sorted(self, x: Tensor, experts: Tensor) -> Tensor:
        """[T, dim], [T, k] -> [T * k, dim], 0 where there is no expert; each expert multiplies its rows together."""
        k = self.num_experts_per_tok
        chosen = experts.flatten() % (len(self.experts) + 1)  # those without an expert come last
        order = chosen.argsort(stable=True)  # [T * k]: which (token, choice) stands where, sorted by expert
        group_sizes = (chosen[:, None] == torch.arange(len(self.experts), device=x.device)).sum(0)
        rows = x[order // k]
        mixed = torch.empty_like(rows)
        is_one_product = self._is_one_product(x.is_cuda, x.dtype)
        mixed[order] = self._grouped(rows, group_sizes) if is_one_product else self._one_by_one(rows, group_sizes)
        return mixed

    def _one_by_one(self, rows: Tensor, group_sizes: Tensor) -> Tensor:
        """[T * k, dim] -> [T * k, dim], 0 where there is no expert; reads the sizes on the host."""
        used = [(expert, size) for expert, size in zip(self.experts, group_sizes.tolist(), strict=True) if size]
        sizes = [size for _, size in used]
        num_held = sum(sizes)
        if not num_held:
            return torch.zeros_like(rows)
        w1, w2, w3 = ([getattr(expert, name) for expert, _ in used] for name in ("w1", "w2", "w3"))
        gate, up = grouped_linears(rows[:num_held], sizes, w1, w3)
        out = grouped_linears(swiglu(gate, up), sizes, w2)[0]
        return out if num_held == len(rows) else pad(out, (0, 0, 0, len(rows) - num_held))

    def _grouped(self, rows: Tensor, group_sizes: Tensor) -> Tensor:
        """[T * k, dim] -> [T * k, dim], 0 where there is no expert; without waiting for the device."""
        w1, w2, w3 = (self._stacked(name) for name in ("w1", "w2", "w3"))
        gate, up = grouped_linear(rows, w1, group_sizes), grouped_linear(rows, w3, group_sizes)
        out = grouped_linear(swiglu(gate, up), w2, group_sizes)
        has_expert = torch.arange(len(rows), device=rows.device) < group_sizes.sum()
        return torch.where(has_expert[:, None], out, 0)

    def _matrices(self, name: str) -> Tensor | QuantizedWeight:
        """One matrix of all experts that are held, [experts, out, in]."""
        if getattr(next(iter(self.experts)), name).quantized is None:
            return self._stacked(name)
        return QuantizedWeight(self._stacked(name), self._stacked(name, "scales"))

    def _stacked(self, name: str, parameter: str = "weight") -> Tensor:
        """One parameter of all experts that are held, [experts, ...].

        Made at the first call; the experts' own parameters become views of it, so that nothing is stored twice and a write
        to either is a write to both.
        """
        linears = [getattr(expert, name) for expert in self.experts]
        parts = [getattr(linear, parameter).detach() for linear in linears]
        stack = self._stacks.get((name, parameter))
        if stack is None or any(own.data_ptr() != part.data_ptr() for own, part in zip(stack, parts, strict=True)):
            stack = self._stacks[name, parameter] = torch.stack(parts)
            for own, linear in zip(stack, linears, strict=True):
                setattr(linear, parameter, nn.Parameter(own, requires_grad=False))
        return stack


def route(logits: Tensor, num_chosen: int) -> tuple[Tensor, Tensor]:
    """Choose experts from the gate's logits [T, num_experts].

    Returns:
        Their weights, [T, num_chosen] fp32, which add up to 1, and their numbers, [T, num_chosen] int64.
    """
    top, experts = torch.topk(logits, num_chosen)
    return torch.softmax(top.float(), dim=-1), experts
