"""Rotary position embedding (arXiv:2104.09864), interleaved: dimensions 2i and 2i + 1 are one pair."""

import torch
from torch import Tensor


def rotations(positions: Tensor, head_dim: int, theta: float) -> Tensor:
    """The rotation of each pair at each position, computed in fp32.

    Args:
        positions: [T] int64, absolute.

    Returns:
        [T, 1, head_dim / 2] complex64: exp(i * position * theta^(-2j / head_dim)) for pair j.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = torch.outer(positions.float(), theta**-exponents)
    return torch.polar(torch.ones_like(angles), angles)[:, None]
