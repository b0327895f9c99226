"""A checkpoint folder, opened: every tensor by its native name, known from headers alone until it is read."""

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from mistral_local.args import TransformerArgs
from mistral_local.errors import WeightsError
from mistral_local.parallel.rules import Part
from mistral_local.weights.layout import Layout, find_layout
from mistral_local.weights.name_map import Origin, native_origins, native_scales
from mistral_local.weights.pth_file import PthFile
from mistral_local.weights.rounding import STORED_SCALES
from mistral_local.weights.safetensors_file import SafetensorsFile
from mistral_local.weights.stored import LOADABLE_DTYPES, StoredTensor, WeightFile

IGNORED = frozenset({"rope.freqs"})
"""Tensors of old checkpoints that are computed from params.json."""


ACTIVATION_SCALES = (".qscale_act", ".input_scale", ".activation_scale")
"""Scales for rounding activations to fp8, beside the weights of published fp8 checkpoints; activations are not rounded here."""


@dataclass(frozen=True, slots=True)
class CheckpointTensor:
    """A tensor by its native name, and how it is made from a stored one."""

    name: str
    shape: tuple[int, ...]
    stored: StoredTensor
    origin: Origin

    @property
    def dtype(self) -> torch.dtype | None:
        """As stored; None when torch has no such type."""
        return self.stored.dtype

    @property
    def is_scales(self) -> bool:
        """Whether it is the scales of a quantized matrix."""
        return self.name.endswith(STORED_SCALES)

    @property
    def file(self) -> Path:
        """The file it is in."""
        return self.stored.file


@dataclass
class Checkpoint:
    """An open checkpoint; use as a context manager.

    Closing forgets the files.  Tensors that were read stay valid: the mapping lives as long as a tensor looks at it,
    and the file must not be overwritten meanwhile.

    Attributes:
        folder: where it is.
        tensors: by native name.
        notes: one line for each thing that a user should know.
    """

    folder: Path
    tensors: dict[str, CheckpointTensor]
    notes: list[str]
    _files: dict[Path, WeightFile] = field(default_factory=dict, repr=False)

    def read(self, name: str, part: Part | None = None) -> Tensor:
        """The tensor on the CPU, or a part of it, as stored.

        A copy-on-write view of the mapped file unless its rows are reordered; only what is used of it is read.
        """
        tensor = self.tensors[name]
        return tensor.origin.take(self._files[tensor.file].read(tensor.stored.name), part)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(prod(t.shape) * t.dtype.itemsize for t in self.tensors.values() if t.dtype is not None)

    @property
    def stored_dtype(self) -> torch.dtype:
        """The dtype that most bytes are stored in, scales aside, which a model takes when no other is asked for.

        Raises:
            WeightsError: no tensor is of a type that can be loaded.
        """
        nbytes = dict.fromkeys(LOADABLE_DTYPES, 0)
        for tensor in self.tensors.values():
            if tensor.dtype in nbytes and not tensor.is_scales:
                nbytes[tensor.dtype] += prod(tensor.shape) * tensor.dtype.itemsize
        dtype, most = max(nbytes.items(), key=lambda item: item[1])
        if not most:
            raise WeightsError(f"{self.folder}: no tensor is stored as float32, bfloat16, float16 or float64")
        return dtype

    def close(self) -> None:
        """Forget the files; nothing more can be read."""
        self._files = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_checkpoint(folder: Path | str, args: TransformerArgs) -> Checkpoint:
    """Open the weights of a folder: consolidated.safetensors, its shards, consolidated.00.pth, or Hugging Face's files.

    Only headers are read.

    Args:
        args: says how many heads there are, which the Hugging Face layout needs.

    Raises:
        WeightsError: files are missing, damaged or contradict each other; file and tensor are named.
    """
    folder = Path(folder)
    layout = find_layout(folder)
    files: dict[Path, WeightFile] = {
        file: PthFile(file) if file.suffix == ".pth" else SafetensorsFile(file) for file in layout.files
    }
    stored = _merged(files)
    _check_index(layout, stored)
    if layout.hugging_face:
        origins = native_origins(stored.values(), args)
    else:
        origins = {name: Origin(name) for name in stored if name not in IGNORED}
    origins = {native_scales(name): origin for name, origin in origins.items() if not name.endswith(ACTIVATION_SCALES)}
    tensors = {name: _described(name, stored[origin.stored], origin) for name, origin in origins.items()}
    return Checkpoint(folder, tensors, [*layout.notes, *_dtype_notes(tensors)], files)


def _described(name: str, stored: StoredTensor, origin: Origin) -> CheckpointTensor:
    shape = origin.shape(stored.shape)
    is_number = name.endswith(STORED_SCALES) and shape == (1,)
    return CheckpointTensor(name, () if is_number else shape, stored, origin)


def _merged(files: dict[Path, WeightFile]) -> dict[str, StoredTensor]:
    merged: dict[str, StoredTensor] = {}
    for file, opened in files.items():
        for name, tensor in opened.tensors.items():
            if name in merged:
                raise WeightsError(f"{file}: tensor {name:.120} is also in {merged[name].file.name}")
            merged[name] = tensor
    return merged


def _dtype_notes(tensors: dict[str, CheckpointTensor]) -> list[str]:
    floats = (t for t in tensors.values() if t.dtype in LOADABLE_DTYPES and not t.is_scales)
    names = sorted({tensor.stored.dtype_name for tensor in floats})
    if len(names) < 2:
        return []
    return [f"tensors are stored as {' and '.join(names)}; all are loaded in the one that most bytes are stored in"]


def _check_index(layout: Layout, stored: dict[str, StoredTensor]) -> None:
    """Check that the index and the shards name the same tensors in the same files."""
    if layout.index is None:
        return
    for name, file in layout.index.items():
        if name not in stored or stored[name].file != file:
            raise WeightsError(f"{file}: tensor {name:.120} is not there, though the index says so")
    for name, tensor in stored.items():
        if name not in layout.index:
            raise WeightsError(f"{tensor.file}: tensor {name:.120} is not in the index")
