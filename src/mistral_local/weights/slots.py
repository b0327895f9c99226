"""Where a tensor of a checkpoint goes in a model."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn


@dataclass(frozen=True, slots=True)
class Slot:
    """The place that one tensor of a native checkpoint fills.

    Attributes:
        parameter: name of a parameter of the model.
        shape: of both.
    """

    parameter: str
    shape: tuple[int, ...]


class HasSlots(Protocol):
    """A module that says which tensors it wants: native checkpoint name -> slot."""

    def weight_slots(self) -> dict[str, Slot]: ...

    def get_parameter(self, target: str) -> nn.Parameter: ...

    def get_submodule(self, target: str) -> nn.Module: ...
