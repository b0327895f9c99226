"""Write a safetensors file tensor by tensor, so that no more than one is in memory."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from mistral_local.weights.safetensors_header import TORCH

NAMES = {dtype: name for name, dtype in TORCH.items()}
ALIGNMENT = 64
"""The first tensor begins at a multiple of so many bytes."""


class SafetensorsWriter:
    """A new file; use as a context manager, and write every tensor of the header in its order.

    Args:
        header: dtype and shape of each tensor, by name.

    Format: 8 bytes little-endian length, a JSON header, the tensors.
    """

    def __init__(self, file: Path, header: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
        self._expected = iter(header.items())
        entries, end = {}, 0
        for name, (dtype, shape) in header.items():
            begin, end = end, end + prod(shape) * dtype.itemsize
            entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(entries).encode()
        text += b" " * (-(len(text) + 8) % ALIGNMENT)
        self._file = file.open("xb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, tensor: Tensor) -> None:
        """Append the next tensor."""
        expected = next(self._expected)
        assert expected == (name, (tensor.dtype, tuple(tensor.shape))), (expected, name, tensor.dtype, tensor.shape)
        self._file.write(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
