"""The sparse mixture-of-experts feed-forward layer of Mixtral."""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.kernels.grouped_linear import grouped_linear
from mistral_local.model.linear import Linear


class MoeFeedForward(nn.Module):
    """Each token goes through its top-k experts, weighted by the softmax over those k logits (arXiv:2401.04088, 2.1).

    The experts' matrices are stacked: w1 and w3 are [num_experts, hidden_dim, dim], w2 is [num_experts, dim,
    hidden_dim].  Tokens are sorted by expert, so that each expert is one product over its own rows.
    """

    def __init__(self, args: TransformerArgs, moe: MoeArgs) -> None:
        super().__init__()
        self.num_experts, self.num_experts_per_tok = moe.num_experts, moe.num_experts_per_tok
        self.gate = Linear(args.dim, moe.num_experts)
        self.w1 = _stacked_linear(moe.num_experts, args.hidden_dim, args.dim)
        self.w2 = _stacked_linear(moe.num_experts, args.dim, args.hidden_dim)
        self.w3 = _stacked_linear(moe.num_experts, args.hidden_dim, args.dim)

    def forward(self, x: Tensor) -> Tensor:
        """[T, dim] -> [T, dim]."""
        k = self.num_experts_per_tok
        weights, experts = route(self.gate(x), k)

        order = experts.flatten().argsort(stable=True)  # [T * k]: which (token, choice) stands where, sorted by expert
        group_sizes = (experts.flatten()[:, None] == torch.arange(self.num_experts, device=x.device)).sum(0)
        rows = x[order // k]
        hidden = silu(grouped_linear(rows, self.w1, group_sizes)).mul_(grouped_linear(rows, self.w3, group_sizes))
        mixed = torch.empty_like(rows)
        mixed[order] = grouped_linear(hidden, self.w2, group_sizes)
        return (mixed.view(-1, k, x.shape[-1]) * weights[..., None].to(x.dtype)).sum(1)


def route(logits: Tensor, num_chosen: int) -> tuple[Tensor, Tensor]:
    """Choose experts from the gate's logits [T, num_experts].

    Returns:
        Their weights, [T, num_chosen] fp32, which add up to 1, and their numbers, [T, num_chosen] int64.
    """
    top, experts = torch.topk(logits, num_chosen)
    return torch.softmax(top.float(), dim=-1), experts


def _stacked_linear(num_experts: int, out_features: int, in_features: int) -> nn.Parameter:
    """Initialised like nn.Linear: uniform within 1 / sqrt(in_features)."""
    bound = in_features**-0.5
    return nn.Parameter(torch.empty(num_experts, out_features, in_features).uniform_(-bound, bound))
