"""Root mean square normalisation (arXiv:1910.07467)."""

from typing import NamedTuple

import torch
from torch import Tensor

from mistral_local.kernels import native, triton


class Normed(NamedTuple):
    """Rows x [T, dim] that are read through their norm: a product may compute it on the way."""

    x: Tensor
    weight: Tensor
    eps: float


def rows_of(x: Tensor | Normed) -> Tensor:
    """The rows themselves."""
    return x.x if isinstance(x, Normed) else x


def computed(x: Tensor | Normed) -> Tensor:
    """The rows, or their norm."""
    return rms_norm(*x) if isinstance(x, Normed) else x


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide the rows of x [T, dim] by their root mean square and scale them by weight [dim].

    Normalised in fp32, cast back to the input's dtype, then scaled: the order decides the rounding in bf16.
    """
    if triton.serves(x):
        from mistral_local.kernels.triton.elementwise import rms_norm as rms_norm_by_triton

        return rms_norm_by_triton(x, weight, eps)
    kernels = native.serving(x, weight, max_rows=native.MAX_ROWS_ELEMENTWISE)
    if kernels is not None and x.shape[1] % 16 == 0:
        return kernels.rms_norm(x.contiguous(), weight, eps)
    return rms_norm_by_torch(x, weight, eps)


def add_rms_norm(x: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x + added, both [T, dim], and the norm of that."""
    if triton.serves(x):
        from mistral_local.kernels.triton.elementwise import add_rms_norm as add_rms_norm_by_triton

        return add_rms_norm_by_triton(x, added, weight, eps)
    total = x + added
    return total, rms_norm(total, weight, eps)


def rms_norm_by_torch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The plain twin."""
    x32 = x.float()
    normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
    return normed.to(x.dtype) * weight
