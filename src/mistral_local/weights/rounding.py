"""Quantized weights in files, and rounding while reading."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from mistral_local.args import TransformerArgs
from mistral_local.config import QuantFormat
from mistral_local.kernels.quantized import BITS, DATA_DTYPES, SCALE_BLOCK, num_block_groups, num_groups, quantize
from mistral_local.weights.slots import Slot

SCALES, STORED_SCALES = ".scales", ".qscale_weight"
"""What the scales of NAME.weight are called in a model, and in a native checkpoint."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """Which parameters are quantized when they are read."""

    format: QuantFormat
    parameters: set[str]

    def apply(self, parameter: str, tensor: Tensor) -> dict[str, Tensor]:
        """A tensor as the model holds it: itself, or its bits and their scales."""
        if parameter not in self.parameters:
            return {parameter: tensor}
        quantized = quantize(tensor, self.format)
        return {parameter: quantized.data, scales_name(parameter): quantized.scales}

    def nbytes(self, slot: Slot) -> int | None:
        """Bytes of a parameter that is quantized; None of others."""
        if slot.parameter not in self.parameters:
            return None
        rows, columns = slot.held_shape
        return prod(slot.held_shape) * BITS[self.format] // 8 + 4 * rows * num_groups(columns, self.format)


def scales_name(parameter: str) -> str:
    """layers.0.attention.wq.weight -> layers.0.attention.wq.scales."""
    return parameter.removesuffix(".weight") + SCALES


def quantized_slots(slots: dict[str, Slot], args: TransformerArgs, quantizable: set[str]) -> dict[str, Slot]:
    """The slots of a checkpoint whose matrices are quantized, from those of the same model in floats.

    Format of published fp8 checkpoints: NAME.weight in float8_e4m3fn beside NAME.qscale_weight, one number or one per block;
    w = q * qscale_weight.  `mistral-local quantize` writes int8 and int4 (q as in QuantizedWeight) and scales per row or group.
    """
    assert args.quantization is not None
    quant_format, scheme = args.quantization.format, args.quantization.qscheme_weight
    result = {}
    for name, slot in slots.items():
        if slot.parameter not in quantizable:
            result[name] = slot
            continue
        rows, columns = slot.shape
        shape = (rows, columns * BITS[quant_format] // 8)
        scales = {
            None: (),
            "CHANNEL": (rows, 1),
            "GROUP": (rows, num_groups(columns, quant_format)),
            "BLOCK": (-(-rows // SCALE_BLOCK), -(-columns // SCALE_BLOCK)),
        }[scheme]
        result[name] = replace(slot, shape=shape, dtype=DATA_DTYPES[quant_format])
        result[name.removesuffix(".weight") + STORED_SCALES] = Slot(
            scales_name(slot.parameter), scales, scales_of=(rows, columns)
        )
    return result


def as_stored(slots: dict[str, Slot], tensors: Container[str]) -> dict[str, Slot]:
    """The slots of these tensors: an fp8 matrix without scales is stored in floats, as published files leave some."""
    result = dict(slots)
    for name, slot in slots.items():
        scales = name.removesuffix(".weight") + STORED_SCALES
        if slot.dtype == torch.float8_e4m3fn and scales not in tensors:
            result[name] = replace(slot, dtype=None)
            del result[scales]
    return result


def scales_nbytes(slot: Slot) -> int:
    """Bytes of scales as the model holds them."""
    assert slot.scales_of is not None
    (rows, columns), stored = slot.scales_of, slot.shape
    groups = stored[1] if stored and stored[0] == rows else num_block_groups(columns) if stored else 1
    return 4 * rows * groups
