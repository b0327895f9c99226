"""A safetensors file, mapped into memory; tensors are copy-on-write views of it."""

from pathlib import Path

import torch
from torch import Tensor

from mistral_local.errors import OutOfMemoryError, WeightsError
from mistral_local.weights.safetensors_header import read_header
from mistral_local.weights.stored import StoredTensor


class SafetensorsFile:
    """One file; its header is checked when it is opened, its bytes are mapped when the first tensor is read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._spans = read_header(file)
        self._mapping: torch.UntypedStorage | None = None
        self.tensors: dict[str, StoredTensor] = {name: span.tensor for name, span in self._spans.items()}

    def read(self, name: str) -> Tensor:
        """The tensor on the CPU: a view of the mapped file, or a copy where the header left it unaligned."""
        span = self._spans[name]
        dtype = span.tensor.dtype
        assert dtype is not None, "callers check the dtype"
        size = span.end - span.begin
        raw = torch.empty(0, dtype=torch.uint8).set_(self._mapped(), span.begin, (size,), (1,))
        if span.begin % dtype.itemsize != 0:
            raw = raw.clone()
        flat: Tensor = raw.view(dtype)
        return flat.view(span.tensor.shape)

    def _mapped(self) -> torch.UntypedStorage:
        """Map privately: writes to a tensor stay in memory and never reach the file."""
        if self._mapping is None:
            size = max((span.end for span in self._spans.values()), default=0)
            try:
                mapping = torch.UntypedStorage.from_file(str(self._file), False, size)
            except RuntimeError as error:
                if "Cannot allocate memory" in str(error):
                    raise OutOfMemoryError(f"{self._file}: no address space to map {size} bytes") from error
                raise WeightsError(f"{self._file}: cannot be mapped ({str(error).splitlines()[0]})") from error
            assert isinstance(mapping, torch.UntypedStorage)
            self._mapping = mapping
        return self._mapping
