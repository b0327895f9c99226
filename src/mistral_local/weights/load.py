"""Load a checkpoint into a model that was built on the meta device."""

from collections.abc import Callable
from itertools import compress
from math import prod

import torch
from torch import Tensor, nn

from mistral_local.errors import OutOfMemoryError, UsageError, WeightsError
from mistral_local.kernels.quantized import expand_scales
from mistral_local.memory import free_bytes, in_words, is_out_of_memory
from mistral_local.parallel.rules import ROWS
from mistral_local.weights.checkpoint import Checkpoint
from mistral_local.weights.compare import check_tensors
from mistral_local.weights.rounding import Rounding, as_stored, scales_nbytes
from mistral_local.weights.slots import HasSlots, Slot
from mistral_local.weights.stored import LOADABLE_DTYPES

Progress = Callable[[int, int, int], None]


def load_weights(
    model: HasSlots,
    checkpoint: Checkpoint,
    *,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    rounding: Rounding | None = None,
    progress: Progress | None = None,
) -> None:
    """Fill every slot that the model holds; each tensor, or part of one, goes from the mapped file to its device once.

    On a CPU, a parameter that keeps its dtype, whole or rows of it, stays a copy-on-write view of the file and takes no memory of its
    own.  Host memory stays within the model's bytes and one tensor; for another device, within one tensor.

    Args:
        model: parameters on the meta device; they are replaced, and only when all tensors have been read.
        dtype: of all parameters; None takes the one that most bytes are stored in.
        rounding: what to quantize; each tensor is rounded on its device before the next one is read.
        progress: called after each tensor with (tensors done, tensors in all, bytes done).

    Raises:
        WeightsError: the tensors are not those of the model, and nothing was read; or on a GPU, numbers of an fp8 matrix are NaN.
        OutOfMemoryError: they do not fit; the model is as it was.
    """
    device = torch.device(device)
    slots = as_stored(model.weight_slots(), checkpoint.tensors)
    check_tensors(checkpoint, slots)
    dtype = checkpoint.stored_dtype if dtype is None else dtype
    if dtype not in LOADABLE_DTYPES:
        raise UsageError(
            f"dtype: expected float32, bfloat16, float16 or float64, got {str(dtype).removeprefix('torch.')}"
        )
    needed = _needed_bytes(checkpoint, slots, device, dtype, rounding)
    available = free_bytes(device)
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{checkpoint.folder}: the weights need {in_words(needed)} on {device}, {in_words(available)} are free"
        )
    try:
        parameters = _read_parameters(checkpoint, slots, device, dtype, rounding, progress)
        # Triton's kernels read a NaN of fp8 as a number; elsewhere it shows by itself.
        nan = [] if device.type == "cpu" else fp8_matrices_with_nan(parameters)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{checkpoint.folder}: the weights need {in_words(needed)} on {device}, which could not be allocated"
        ) from error
    if nan:
        raise WeightsError(f"{checkpoint.folder}: tensor {nan[0]}: holds NaN")
    for name, tensor in parameters.items():
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))


def _read_parameters(
    checkpoint: Checkpoint,
    slots: dict[str, Slot],
    device: torch.device,
    dtype: torch.dtype,
    rounding: Rounding | None,
    progress: Progress | None,
) -> dict[str, Tensor]:
    parameters: dict[str, Tensor] = {}
    nbytes = 0
    held = [(name, slot, slot.parameter) for name, slot in slots.items() if slot.parameter is not None]
    for done, (name, slot, parameter) in enumerate(held, start=1):
        tensor = checkpoint.read(name, slot.part)
        nbytes += tensor.nbytes
        # Made contiguous first, columns of a matrix cross to another device in one copy.
        tensor = tensor.contiguous().to(device)
        if slot.scales_of is not None:
            parameters[parameter] = expand_scales(tensor, slot.scales_of)
        elif slot.dtype is not None:
            parameters[parameter] = tensor
        else:
            tensor = tensor.to(dtype)
            parameters |= {parameter: tensor} if rounding is None else rounding.apply(parameter, tensor)
        if progress is not None:
            progress(done, len(held), nbytes)
    return parameters


def fp8_matrices_with_nan(parameters: dict[str, Tensor]) -> list[str]:
    """Names of the fp8 tensors that hold a NaN; the device is waited for once."""
    matrices = {name: tensor for name, tensor in parameters.items() if tensor.dtype == torch.float8_e4m3fn}
    found = [(tensor.view(torch.uint8) & 0x7F == 0x7F).any() for tensor in matrices.values()]
    return list(compress(matrices, torch.stack(found).tolist())) if found else []


def _needed_bytes(
    checkpoint: Checkpoint,
    slots: dict[str, Slot],
    device: torch.device,
    dtype: torch.dtype,
    rounding: Rounding | None,
) -> int:
    """Bytes to allocate on the device: all of it, but on a CPU not what stays a view of the file."""

    def stays_mapped(name: str, slot: Slot) -> bool:
        tensor = checkpoint.tensors[name]
        is_contiguous = slot.part is None or slot.part.dim == ROWS
        is_kept = tensor.dtype == (dtype if slot.dtype is None else slot.dtype)
        return device.type == "cpu" and is_kept and not tensor.origin.heads and is_contiguous

    def nbytes(name: str, slot: Slot) -> int:
        quantized = None if rounding is None else rounding.nbytes(slot)
        if quantized is not None:
            return quantized
        if slot.scales_of is not None:
            return scales_nbytes(slot)
        return 0 if stays_mapped(name, slot) else prod(slot.held_shape) * (slot.dtype or dtype).itemsize

    return sum(nbytes(name, slot) for name, slot in slots.items() if slot.parameter is not None)
