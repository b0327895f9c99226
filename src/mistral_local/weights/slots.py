"""Where a tensor of a checkpoint goes in a model."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from mistral_local.parallel.rules import Part


@dataclass(frozen=True, slots=True)
class Slot:
    """The place that one tensor of a native checkpoint fills.

    Attributes:
        parameter: name of a parameter of the model; None for a tensor that only other ranks hold.
        shape: of the tensor.
        part: what of it the parameter is; None for all of it.
        dtype: as which it must be stored, and is kept; None takes any float type, and gives it the model's.
        scales_of: shape of the quantized matrix whose scales these are.
    """

    parameter: str | None
    shape: tuple[int, ...]
    part: Part | None = None
    dtype: torch.dtype | None = None
    scales_of: tuple[int, int] | None = None

    @property
    def held_shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return self.shape if self.part is None else self.part.shape(self.shape)


class HasSlots(Protocol):
    """A module that says which tensors it wants: native checkpoint name -> slot."""

    def weight_slots(self) -> dict[str, Slot]: ...

    def get_parameter(self, target: str) -> nn.Parameter: ...

    def get_submodule(self, target: str) -> nn.Module: ...
