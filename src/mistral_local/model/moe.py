"""The sparse mixture-of-experts feed-forward layer of Mixtral."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.kernels import triton
from mistral_local.kernels.grouped_linear import grouped_linear
from mistral_local.kernels.quantized import QuantizedWeight
from mistral_local.kernels.rms_norm import Normed, computed, rows_of
from mistral_local.kernels.swiglu import swiglu
from mistral_local.model.feed_forward import FeedForward
from mistral_local.model.joined import join
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

    def hold(self, experts: range) -> None:
        """Keep these experts only; they keep their numbers."""
        for number in set(range(self.num_experts)) - set(experts):
            delattr(self.experts, str(number))
        self.first_held = experts.start

    def forward(self, x: Tensor | Normed, is_token: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        """[T, dim] -> [T, dim], added to `residual` if it is given; rows that are no tokens choose no expert."""
        if triton.serves(rows_of(x), max_rows=triton.MAX_TOKENS_OF_EXPERTS):
            mixed = self._unsorted(x, is_token, residual)
            if mixed is not None:
                return mixed
        x = computed(x)
        weights, experts = route(self.gate(x), self.num_experts_per_tok)
        pairs = self._sorted(x, self._numbers_here(experts, is_token)).view(*experts.shape, -1)
        mixed = (pairs * weights[..., None].to(x.dtype)).sum(1)
        return mixed if residual is None else residual + mixed

    def waits_for_host(self, num_tokens: int) -> bool:
        """Whether a step of so many tokens reads on the host who goes where."""
        weight = self.gate.weight
        are_few = num_tokens <= triton.MAX_TOKENS_OF_EXPERTS and not triton.reasons_against_triton(weight.device)
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

    def _unsorted(self, x: Tensor | Normed, is_token: Tensor | None, residual: Tensor | None) -> Tensor | None:
        """As forward, of few rows; None if Triton cannot read the experts."""
        from mistral_local.kernels.triton.moe import expert_down, expert_gate_up
        from mistral_local.kernels.triton.product import can_read
        from mistral_local.kernels.triton.route import route as route_by_triton

        w1, w3, w2 = *self._stacks("w1", "w3"), *self._stacks("w2")
        if not all(can_read(matrices, rows_of(x)) for matrices in (self.gate.weight, w1, w3, w2)):
            return None
        held = range(self.first_held, self.first_held + len(self.experts))
        x, weights, experts = route_by_triton(x, self.gate.weight, self.num_experts_per_tok, held, is_token)
        return expert_down(expert_gate_up(x, experts, w1, w3), experts, weights, w2, residual)

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
        gate, up = grouped_linear(rows, self._joined("w1", "w3"), group_sizes).chunk(2, dim=1)
        out = grouped_linear(swiglu(gate, up), self._joined("w2"), group_sizes)
        has_expert = torch.arange(len(rows), device=rows.device) < group_sizes.sum()
        return torch.where(has_expert[:, None], out, 0)

    def join_matrices(self) -> None:
        """Let all experts be one grouped product."""
        self._stacks("w1", "w3")
        self._stacks("w2")

    def _stacks(self, *names: str) -> Sequence[Tensor | QuantizedWeight]:
        """Of each name the matrices of all experts that are held, [experts, out, in]."""
        bits = self._joined(*names).chunk(len(names), dim=1)
        if getattr(next(iter(self.experts)), names[0]).quantized is None:
            return bits
        scales = self._joined(*names, parameter="scales").chunk(len(names), dim=1)
        return list(map(QuantizedWeight, bits, scales))

    def _joined(self, *names: str, parameter: str = "weight") -> Tensor:
        """A parameter of all experts that are held, [experts, out of all names, ...]; theirs become views of it."""
        layers = [getattr(expert, name) for expert in self.experts for name in names]
        joined = join(layers, parameter)
        return joined.view(len(self.experts), -1, *joined.shape[1:])


def route(logits: Tensor, num_chosen: int) -> tuple[Tensor, Tensor]:
    """Choose experts from the gate's logits [T, num_experts].

    Returns:
        Their weights, [T, num_chosen] fp32, which add up to 1, and their numbers, [T, num_chosen] int64.
    """
    top, experts = torch.topk(logits, num_chosen)
    return torch.softmax(top.float(), dim=-1), experts
