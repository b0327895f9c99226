"""Quantized weights in files, and rounding while reading."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from mistral_local.args import TransformerArgs
from mistral_local.config import QuantFormat
from mistral_local.errors import UnsupportedCheckpointError
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
    """The slots of these tensors: an fp8 matrix without scales is stored in floats, as published files leave some.

    Raises:
        UnsupportedCheckpointError: of matrices that are multiplied together some are rounded and some are not.
    """
    result = dict(slots)
    rounded: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, slot in slots.items():
        if slot.dtype != torch.float8_e4m3fn:
            continue
        scales = name.removesuffix(".weight") + STORED_SCALES
        (rounded if scales in tensors else kept).setdefault(_group(name), name)
        if scales not in tensors:
            result[name] = replace(slot, dtype=None)
            del result[scales]
    if mixed := sorted(rounded.keys() & kept.keys()):
        raise UnsupportedCheckpointError(
            f"{kept[mixed[0]]} has no scales, {rounded[mixed[0]]} has: matrices that are multiplied together must be alike"
        )
    return result


def _group(name: str) -> str:
    """The same for Q, K and V of a layer, for gate and up, and for all of its experts.

    >>> _group("layers.0.feed_forward.experts.3.w1.weight")
    'layers.0.feed_forward.experts.w13.weight'
    """
    name = re.sub(r"\.experts\.\d+\.", ".experts.", name)
    return re.sub(r"\.w[qkv]\.", ".wqkv.", re.sub(r"\.w[13]\.", ".w13.", name))


def scales_nbytes(slot: Slot) -> int:
    """Bytes of scales as the model holds them."""
    assert slot.scales_of is not None
    (rows, columns), stored = slot.scales_of, slot.shape
    groups = stored[1] if stored and stored[0] == rows else num_block_groups(columns) if stored else 1
    return 4 * rows * groups
