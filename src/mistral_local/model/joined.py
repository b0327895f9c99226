"""Matrices that lie under each other in memory, so that one product serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def join(layers: Sequence[nn.Module], parameter: str = "weight") -> Tensor:
    """Lay one parameter of several layers under each other, and let theirs be views of it.

    Nothing is stored twice, and a write to either is a write to both.  Where they lie so already, nothing is copied.

    Returns:
        [sum of rows, ...].
    """
    parts = [getattr(layer, parameter).detach() for layer in layers]
    joined = joined_view(parts)
    if joined is None:
        with torch.inference_mode(False):  # else nobody could write to them later
            joined = torch.cat(parts)
            for layer, own in zip(layers, torch.split(joined, [len(part) for part in parts]), strict=True):
                setattr(layer, parameter, nn.Parameter(own, requires_grad=False))
    return joined


def joined_view(parts: Sequence[Tensor]) -> Tensor | None:
    """The one tensor [sum of rows, ...] that these lie in under each other; None if they do not."""
    if not all(_follows(lower, upper) for upper, lower in pairwise(parts)):
        return None
    rows, first = sum(len(part) for part in parts), parts[0]
    return first.as_strided((rows, *first.shape[1:]), first.stride())


def _follows(lower: Tensor, upper: Tensor) -> bool:
    return (
        lower.dtype == upper.dtype
        and lower.shape[1:] == upper.shape[1:]
        and lower.is_contiguous()
        and upper.is_contiguous()
        and lower.data_ptr() == upper.data_ptr() + upper.nbytes
        and lower.untyped_storage().data_ptr() == upper.untyped_storage().data_ptr()
    )
