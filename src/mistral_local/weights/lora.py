"""LoRA adapters in the native format, merged into the weights: W += scaling * B @ A (arXiv:2106.09685)."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mistral_local.errors import AdapterError, OutOfMemoryError, WeightsError
from mistral_local.memory import is_out_of_memory
from mistral_local.parallel.rules import COLUMNS, ROWS, Part
from mistral_local.weights.safetensors_file import SafetensorsFile
from mistral_local.weights.slots import HasSlots, Slot
from mistral_local.weights.stored import LOADABLE_DTYPES, StoredTensor

HALVES = (".lora_A.weight", ".lora_B.weight")
NOT_ADAPTED = ("output.weight", "tok_embeddings.weight")
"""Linear layers inside the blocks are adapted; mistral_inference left these two out."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """What is added to `target`, a view of a parameter: a is [rank, in], b is [out, rank], both in fp32 or fp64."""

    target: Tensor
    a: Tensor
    b: Tensor


@torch.no_grad()
def merge_lora(model: HasSlots, path: Path | str, *, scaling: float = 2.0) -> None:
    """Merge a LoRA file into the model's weights, in place.

    The whole file is checked first; then W + scaling * B @ A is computed in fp32 and rounded once to the dtype of W.
    The file may be stored in another float dtype than the model.

    Args:
        path: safetensors with NAME.lora_A.weight [rank, in] and NAME.lora_B.weight [out, rank] for some of the linear
            layers; the router and single experts count as such.
        scaling: any finite number; 2.0 is what the published adapters are trained with.

    Raises:
        AdapterError: the file does not fit this model, the tensor is named; all weights are as before.
    """
    path = Path(path)
    if isinstance(scaling, bool) or not isinstance(scaling, int | float) or not math.isfinite(scaling):
        raise AdapterError(f"scaling: expected a finite number, got {scaling!r}")
    try:
        pairs = _read_pairs(path, model)
        for name, pair in pairs.items():
            _check_range(f"{path}: {name}", pair, scaling)
        targets = [pair.target for pair in pairs.values()]
        largest = max(targets, key=Tensor.numel, default=torch.empty(0))  # none where other ranks hold all of them
        scratch = torch.empty(largest.numel(), dtype=_merge_dtype(largest), device=largest.device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{path}: no memory to merge it; the weights are as before") from error
    for pair in pairs.values():  # nothing is allocated here, so that nothing can fail
        merged = scratch[: pair.target.numel()].view(pair.target.shape).copy_(pair.target)
        pair.target.copy_(merged.addmm_(pair.b, pair.a, alpha=scaling))


def _merge_dtype(target: Tensor) -> torch.dtype:
    return torch.promote_types(target.dtype, torch.float32)


def _read_pairs(path: Path, model: HasSlots) -> dict[str, _Pair]:
    """Read and check all of the file against the model; names are those of the tensors to add to."""
    if not path.is_file():
        raise AdapterError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        file = SafetensorsFile(path)
    except WeightsError as error:
        raise AdapterError(str(error)) from error
    if not file.tensors:
        raise AdapterError(f"{path}: no tensors")
    slots = model.weight_slots()
    targets = {name: _target_name(path, name, slots) for name in file.tensors}
    pairs = {}
    for name in dict.fromkeys(targets.values()):
        slot = slots[name]
        stored = _stored_pair(path, file, name, slot)
        if slot.parameter is None:
            continue
        target = model.get_parameter(slot.parameter).detach()
        if target.device.type == "meta":
            raise AdapterError(f"{path}: the model has no weights yet; load them first")
        if target.dtype not in LOADABLE_DTYPES:
            raise AdapterError(f"{path}: the weights are quantized; merge the adapter first, and quantize then")
        pairs[name] = _read_pair(path, file, stored, target, slot.part)
    return pairs


def _target_name(path: Path, name: str, slots: dict[str, Slot]) -> str:
    """layers.0.attention.wq.lora_A.weight -> layers.0.attention.wq.weight, if the model has that and may adapt it."""
    half = next((half for half in HALVES if name.endswith(half)), None)
    target = f"{name.removesuffix(half)}.weight" if half else ""
    if target not in slots:
        raise AdapterError(f"{path}: tensor {name:.120}: nothing in this model that it could be added to")
    if target in NOT_ADAPTED or len(slots[target].shape) != 2:
        raise AdapterError(f"{path}: tensor {name}: {target} cannot be adapted, only linear layers inside the blocks")
    return target


def _stored_pair(path: Path, file: SafetensorsFile, name: str, slot: Slot) -> tuple[StoredTensor, StoredTensor]:
    a, b = (_stored_half(path, file, name.removesuffix(".weight") + half) for half in HALVES)
    rank = max(a.shape[0] if a.shape else 1, 1)
    for stored, expected in ((a, (rank, slot.shape[1])), (b, (slot.shape[0], rank))):
        if stored.shape != expected:
            raise AdapterError(f"{path}: tensor {stored.name}: expected {expected}, found {stored.shape}")
    return a, b


def _read_pair(
    path: Path, file: SafetensorsFile, stored: tuple[StoredTensor, StoredTensor], target: Tensor, part: Part | None
) -> _Pair:
    """Of a target that is a part, only those rows of B or columns of A that belong to it."""
    halves = [file.read(half.name).to(target.device, _merge_dtype(target)) for half in stored]
    for tensor, half in zip(stored, halves, strict=True):
        if not torch.isfinite(half).all():
            raise AdapterError(f"{path}: tensor {tensor.name}: holds NaN or infinity")
    a, b = halves
    if part is not None and part.dim == ROWS:
        b = b.narrow(ROWS, part.start, part.length)
    elif part is not None:
        a = a.narrow(COLUMNS, part.start, part.length)
    return _Pair(target, a, b)


def _stored_half(path: Path, file: SafetensorsFile, name: str) -> StoredTensor:
    if name not in file.tensors:
        raise AdapterError(f"{path}: tensor {name} is missing, its other half is there")
    stored = file.tensors[name]
    if stored.dtype not in LOADABLE_DTYPES:
        raise AdapterError(f"{path}: tensor {name}: expected a float type, found {stored.dtype_name}")
    return stored


def _check_range(where: str, pair: _Pair, scaling: float) -> None:
    """Refuse values so large that W + scaling * B @ A could leave the range of W's dtype or of fp32."""

    def largest(values: Tensor) -> float:
        low, high = torch.aminmax(values)
        return max(abs(float(low)), abs(float(high)))

    added = abs(scaling) * pair.a.shape[0] * largest(pair.a) * largest(pair.b)
    limit = min(torch.finfo(pair.target.dtype).max, torch.finfo(torch.float32).max)
    if not largest(pair.target) + added < limit:
        dtype = str(pair.target.dtype).removeprefix("torch.")
        raise AdapterError(f"{where}: the sum could leave the range of {dtype}")
