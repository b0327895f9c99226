"""The header of a safetensors file, checked before anything is read.

A file is: 8 bytes little-endian header length N, N bytes of JSON, tensor bytes.  The JSON maps each name to its dtype,
shape and data_offsets [begin, end), which count from the end of the header and must cover all tensor bytes without gap
or overlap.  https://huggingface.co/docs/safetensors
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from mistral_local.args import parse_object
from mistral_local.errors import WeightsError
from mistral_local.weights.stored import StoredTensor

MAX_HEADER_BYTES = 100_000_000

# Bits per element; the types that torch has and a reader may build.
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
TORCH = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A tensor and where its bytes are, counted from the start of the file."""

    tensor: StoredTensor
    begin: int
    end: int


def read_header(file: Path) -> dict[str, Span]:
    """Return every tensor of the file by name.

    Raises:
        WeightsError: the file cannot be read, is truncated, or its header contradicts itself or the file; the tensor
            is named.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if size < 8 or length > MAX_HEADER_BYTES or 8 + length > size:
                raise WeightsError(
                    f"{file}: not a whole safetensors file: it has {size} bytes and says that its header has {length} "
                    f"(at most {MAX_HEADER_BYTES})"
                )
            content = opened.read(length)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror or error})") from error
    header = parse_object(content, source=f"{file} header", error=WeightsError)
    _check_metadata(header.pop("__metadata__", None), file)
    spans = {name: _span(name, entry, file, data_begin=8 + length) for name, entry in header.items()}
    _check_cover(sorted(spans.values(), key=lambda span: (span.begin, span.end)), file, 8 + length, size)
    return spans


def _check_metadata(metadata: object, file: Path) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{file}: __metadata__ is not a map of strings")


def _span(name: str, entry: Any, file: Path, *, data_begin: int) -> Span:
    where = f"{file}: tensor {_short(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{where}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise WeightsError(f"{where}: unknown dtype {_short(dtype)}")
    if not _are_counts(shape) or len(shape) > 8:
        raise WeightsError(f"{where}: shape {_short(shape)} is not a list of sizes")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise WeightsError(f"{where}: data_offsets {_short(offsets)} are not a begin and an end")
    expected_bits, found = prod(shape) * BITS[dtype], offsets[1] - offsets[0]
    if expected_bits != 8 * found:
        raise WeightsError(
            f"{where}: expected {expected_bits // 8} bytes for {dtype} {_short(shape)}, found {found} in data_offsets"
        )
    stored = StoredTensor(name, tuple(shape), TORCH.get(dtype), dtype, file)
    return Span(stored, data_begin + offsets[0], data_begin + offsets[1])


def _are_counts(values: Any) -> bool:
    """Whether it is a list of integers from 0 to 2^48, so that no product of them surprises torch."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= 1 << 48 for value in values)


def _check_cover(spans: list[Span], file: Path, data_begin: int, size: int) -> None:
    """Check that the spans, sorted by their begin, cover the file from the end of the header to its own end."""
    position = data_begin
    for span in spans:
        if span.begin != position:
            problem = "overlaps the tensor before it" if span.begin < position else "leaves a gap before it"
            raise WeightsError(f"{file}: tensor {_short(span.tensor.name)}: begins at byte {span.begin}, {problem}")
        if span.end > size:
            raise WeightsError(
                f"{file}: tensor {_short(span.tensor.name)}: ends at byte {span.end}, but the file has {size}; "
                "is it truncated?"
            )
        position = span.end
    if position != size:
        raise WeightsError(f"{file}: {size - position} bytes after the last tensor belong to none")


def _short(value: object) -> str:
    """For a message: on one line and not long, whatever a damaged file holds."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
