"""consolidated.00.pth: a zip of storages and a pickle that may only name tensors."""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from mistral_local.errors import WeightsError
from mistral_local.weights.stored import StoredTensor

# What the restricted unpickler and the zip reader raise on damaged files.
DAMAGED = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError,
    OSError, AssertionError, OverflowError, MemoryError,
)  # fmt: skip


class PthFile:
    """One .pth file, mapped; nothing in it is ever executed (`weights_only`)."""

    def __init__(self, file: Path) -> None:
        self._content = _load(file)
        self.tensors: dict[str, StoredTensor] = {
            name: StoredTensor(name, tuple(tensor.shape), tensor.dtype, str(tensor.dtype).removeprefix("torch."), file)
            for name, tensor in self._content.items()
        }

    def read(self, name: str) -> Tensor:
        """The tensor on the CPU: a view of the mapped file."""
        return self._content[name].contiguous()


def _load(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(str(file), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{file}: refused, it holds something else than tensors, which could run code; convert it to safetensors"
        ) from error
    except DAMAGED as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise WeightsError(f"{file}: not a .pth file that can be mapped ({reason[:200]})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file}: expected a dictionary of tensors, found {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not name.isprintable() or not isinstance(tensor, Tensor):
            raise WeightsError(f"{file}: expected tensors by name, found {name!r:.80}: {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise WeightsError(f"{file}: tensor {name}: expected a dense tensor, found {tensor.layout}")
    return {name: tensor.detach() for name, tensor in content.items()}
