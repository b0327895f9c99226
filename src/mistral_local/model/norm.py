"""RMSNorm."""

import torch
from torch import Tensor, nn

from mistral_local.kernels.rms_norm import rms_norm


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last dimension (arXiv:1910.07467)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[T, dim] -> [T, dim]."""
        return rms_norm(x, self.weight, self.eps)
