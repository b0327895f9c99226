"""Write a checkpoint whose matrices are quantized."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mistral_local.args import TransformerArgs
from mistral_local.config import QuantFormat
from mistral_local.errors import MistralLocalError, UsageError, WeightsError
from mistral_local.kernels.quantized import BITS, DATA_DTYPES, dequantize, num_groups, quantize
from mistral_local.model.base import NOT_QUANTIZABLE
from mistral_local.model.transformer import Transformer
from mistral_local.tokenizer.find import find_tokenizer
from mistral_local.weights.checkpoint import Checkpoint, open_checkpoint
from mistral_local.weights.compare import check_tensors
from mistral_local.weights.rounding import STORED_SCALES
from mistral_local.weights.safetensors_writer import SafetensorsWriter
from mistral_local.weights.slots import Slot

QFORMATS: dict[QuantFormat, str] = {"int8": "int8", "int4": "int4", "fp8": "fp8_e4m3"}
ROW_FORMATS = ("int8", "fp8")

Header = dict[str, tuple[torch.dtype, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        num_matrices: how many were quantized.
        bytes_before, bytes_after: of all tensors.
        mean_error, worst_error: relative root mean square error of a matrix.
        worst: its name.
    """

    num_matrices: int
    bytes_before: int
    bytes_after: int
    mean_error: float
    worst_error: float
    worst: str


def quantize_checkpoint(
    folder: Path,
    target: Path,
    quant_format: QuantFormat,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Quantize the matrices inside the blocks of a checkpoint and write all of it to a new folder.

    One tensor is in memory at a time.  The folder appears when it is whole.

    Args:
        folder: any checkpoint that can be loaded.
        target: must not exist.
        progress: called with (tensors done, tensors in all).

    Raises:
        CheckpointError: the checkpoint cannot be read.
        UsageError: its matrices are quantized already or cannot be, or the target exists.
        MistralLocalError: the target cannot be written.
    """
    args = TransformerArgs.from_folder(folder)
    if args.quantization is not None:
        raise UsageError(f"{folder}: the weights are quantized already")
    if target.exists():
        raise UsageError(f"{target} exists already; name a new folder")
    with torch.device("meta"):
        model = Transformer(args)
    if not model.quantizable():
        raise UsageError(f"{folder}: {NOT_QUANTIZABLE}")
    staging = target.with_name(f".{target.name}.quantizing")
    with open_checkpoint(folder, args) as checkpoint:
        slots = model.weight_slots()
        check_tensors(checkpoint, slots)
        header = _header(checkpoint, slots, model.quantizable(), quant_format)
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            _write_params(folder, staging, args, quant_format)
            tokenizer = find_tokenizer(folder).file
            shutil.copyfile(tokenizer, staging / tokenizer.name)
            errors = _write_weights(staging, checkpoint, header, quant_format, progress)
            staging.rename(target)
        except OSError as error:
            raise MistralLocalError(f"{target} cannot be written: {error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        nbytes = sum(_numel(shape) * dtype.itemsize for dtype, shape in header.values())
        worst = max(errors, key=errors.__getitem__)
        return Report(len(errors), checkpoint.nbytes, nbytes, sum(errors.values()) / len(errors), errors[worst], worst)


def _header(checkpoint: Checkpoint, slots: dict[str, Slot], quantizable: set[str], quant_format: QuantFormat) -> Header:
    """Every tensor of the new file, the scales of a matrix after its bits."""
    header: Header = {}
    stored_dtype = checkpoint.stored_dtype
    for name, slot in slots.items():
        if slot.parameter in quantizable:
            rows, columns = slot.shape
            header[name] = (DATA_DTYPES[quant_format], (rows, columns * BITS[quant_format] // 8))
            header[_scales_of(name)] = (torch.float32, (rows, num_groups(columns, quant_format)))
        else:
            header[name] = (stored_dtype, slot.shape)
    return header


def _write_weights(
    folder: Path,
    checkpoint: Checkpoint,
    header: Header,
    quant_format: QuantFormat,
    progress: Callable[[int, int], None] | None,
) -> dict[str, float]:
    """Write the file; returns the relative error of each matrix."""
    errors: dict[str, float] = {}
    names = [name for name in header if not name.endswith(STORED_SCALES)]
    with SafetensorsWriter(folder / "consolidated.safetensors", header) as writer:
        for done, name in enumerate(names, start=1):
            tensor = checkpoint.read(name)
            if _scales_of(name) in header:
                quantized = quantize(tensor, quant_format)
                writer.write(name, quantized.data)
                writer.write(_scales_of(name), quantized.scales)
                errors[name] = _relative_error(tensor.float(), dequantize(quantized, torch.float32))
                if not math.isfinite(errors[name]):
                    raise WeightsError(f"{checkpoint.folder}: tensor {name}: holds NaN or infinity")
            else:
                writer.write(name, tensor.to(header[name][0]))
            if progress is not None:
                progress(done, len(names))
    return errors


def _write_params(folder: Path, target: Path, args: TransformerArgs, quant_format: QuantFormat) -> None:
    native = folder / "params.json"
    if native.exists():
        params = json.loads(native.read_text(encoding="utf-8"))
    else:
        params = {name: value for name, value in args.to_dict().items() if value is not None and name[0] != "_"}
    params["quantization"] = {
        "qformat_weight": QFORMATS[quant_format],
        "qscheme_act": "NO_SCALES",
        "qscheme_weight": "CHANNEL" if quant_format in ROW_FORMATS else "GROUP",
    }
    (target / "params.json").write_text(json.dumps(params, indent=2) + "\n", encoding="utf-8")


def _scales_of(name: str) -> str:
    return name.removesuffix(".weight") + STORED_SCALES


def _relative_error(exact: Tensor, rounded: Tensor) -> float:
    return float((rounded - exact).norm() / exact.norm().clamp(min=1e-30))


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
