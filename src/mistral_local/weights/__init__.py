"""Weights: readers of checkpoint files, name maps, loading into a model, LoRA adapters.

A checkpoint is opened (`checkpoint`), compared with the model's slots (`compare`), and read tensor by tensor (`load`).
"""

from mistral_local.weights.checkpoint import Checkpoint, CheckpointTensor, open_checkpoint
from mistral_local.weights.load import load_weights
from mistral_local.weights.lora import merge_lora
from mistral_local.weights.slots import Slot

__all__ = ["Checkpoint", "CheckpointTensor", "Slot", "load_weights", "merge_lora", "open_checkpoint"]
