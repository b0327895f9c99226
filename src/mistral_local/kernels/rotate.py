"""Rotate pairs of numbers: the inner loop of rotary position embedding (arXiv:2104.09864)."""

import torch
from torch import Tensor

from mistral_local.kernels import native


def rotate(x: Tensor, by: Tensor) -> Tensor:
    """Rotate dimensions 2i and 2i + 1 of each head as one pair; x may be overwritten.

    Args:
        x: [T, heads, head_dim].
        by: [T, 1, head_dim / 2] complex64, one number of length 1 for each pair.

    Returns:
        [T, heads, head_dim] in the dtype of x, computed in fp32.
    """
    kernels = native.serving(x, max_rows=native.MAX_ROWS_ELEMENTWISE)
    return rotate_by_torch(x, by) if kernels is None else kernels.rotate_(x.contiguous(), by)


def rotate_by_torch(x: Tensor, by: Tensor) -> Tensor:
    """The plain twin."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * by).flatten(-2).to(x.dtype)
