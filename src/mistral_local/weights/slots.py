"""Where a tensor of a checkpoint goes in a model."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn


@dataclass(frozen=True, slots=True)
class Slot:
    """The place that one tensor of a native checkpoint fills.

    Attributes:
        parameter: name of a parameter of the model.
        index: None when the tensor is the whole parameter; otherwise the row of a stacked parameter, such as the
            number of an expert in [num_experts, out, in].
        shape: of the tensor: that of the parameter, or of one row of it.
    """

    parameter: str
    index: int | None
    shape: tuple[int, ...]


class HasSlots(Protocol):
    """A module that says which tensors it wants: native checkpoint name -> slot."""

    def weight_slots(self) -> dict[str, Slot]: ...

    def get_parameter(self, target: str) -> nn.Parameter: ...

    def get_submodule(self, target: str) -> nn.Module: ...
