"""A model of random weights that are drawn on its device: no file, and no copy in host memory."""

from pathlib import Path

import torch
from torch import Tensor

from mistral_local.args import TransformerArgs
from mistral_local.bench.shapes import SHAPES, draw_weight
from mistral_local.config import QuantFormat
from mistral_local.model.transformer import Transformer
from mistral_local.weights.checkpoint import Checkpoint, CheckpointTensor
from mistral_local.weights.load import load_weights
from mistral_local.weights.name_map import Origin
from mistral_local.weights.rounding import Rounding
from mistral_local.weights.slots import Slot
from mistral_local.weights.stored import StoredTensor


def random_model(shape: str, device: torch.device, *, quantize: QuantFormat | None = None) -> Transformer:
    """Build a bf16 model of one of SHAPES and load random weights into it, as if from a file.

    Args:
        quantize: round each matrix inside the blocks when it has been drawn, before the next one is.

    Raises:
        OutOfMemoryError: if the weights do not fit.
    """
    with torch.device("meta"):
        model = Transformer(TransformerArgs.from_dict(dict(SHAPES[shape])))
    load_weights(
        model,
        _checkpoint(shape, model.weight_slots(), device),
        device=device,
        rounding=Rounding(quantize, model.quantizable()) if quantize else None,
    )
    model.lay_out()
    return model.eval().requires_grad_(False)


class _RandomFile:
    """Draws a tensor whenever one is read."""

    def __init__(self, tensors: dict[str, StoredTensor], device: torch.device) -> None:
        self.tensors = tensors
        self._generator = torch.Generator(device).manual_seed(1234)

    def read(self, name: str) -> Tensor:
        return draw_weight(name, self.tensors[name].shape, self._generator)


def _checkpoint(shape: str, slots: dict[str, Slot], device: torch.device) -> Checkpoint:
    file = Path(f"random {shape}")
    stored = {name: StoredTensor(name, slot.shape, torch.bfloat16, "BF16", file) for name, slot in slots.items()}
    tensors = {name: CheckpointTensor(name, one.shape, one, Origin(name)) for name, one in stored.items()}
    return Checkpoint(file, tensors, [], {file: _RandomFile(stored, device)})
