"""What the check of the kernels is made of: sizes, random tensors, and a result beside the right one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

TOLERANCES = {torch.bfloat16: 2**-6, torch.float16: 2**-8, torch.float32: 1e-4}
"""Of a result that was rounded a few times on its way; sums of thousands of rounded numbers are off by less."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the tensors are, as in params.json; `context` tokens are cached, and products have so many rows."""

    dim: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    rows: tuple[int, ...]


class Draw:
    """Random tensors of one device and dtype, always the same."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._generator = torch.Generator(device).manual_seed(0)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal numbers of this standard deviation."""
        numbers = torch.randn(*shape, generator=self._generator, device=self.device)
        return (numbers * scale).to(self.dtype)

    def matrix(self, rows: int, columns: int) -> Tensor:
        """[rows, columns], which leaves a vector about as long as it is."""
        return self(rows, columns, scale=columns**-0.5)


class Case(NamedTuple):
    """What a kernel found, and what torch found in fp32."""

    name: str
    found: Tensor
    expected: Tensor

    @property
    def error(self) -> float:
        """The length of the difference, as a share of the result's; NaN where there is one."""
        expected = self.expected.float()
        return float((self.found.float() - expected).norm() / expected.norm().clamp(min=1e-30))

    @property
    def tolerance(self) -> float:
        """The largest error that rounding explains."""
        return TOLERANCES[self.found.dtype]
