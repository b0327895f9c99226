"""One tensor as it stands in a file, known from the header alone, and what every reader of files offers."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

LOADABLE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""What a parameter may be stored as; everything else is quantized, or not a weight."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Name, shape and place of a tensor; `dtype` is None when torch has no such type."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None
    dtype_name: str
    file: Path

    @property
    def nbytes(self) -> int:
        """Bytes of a tensor of a type that torch has."""
        assert self.dtype is not None
        return prod(self.shape) * self.dtype.itemsize


class WeightFile(Protocol):
    """An open file of tensors."""

    tensors: dict[str, StoredTensor]

    def read(self, name: str) -> Tensor:
        """The tensor on the CPU: a copy-on-write view of the mapped file where that is possible."""
