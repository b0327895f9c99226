"""The tiny checkpoints that are run on several ranks, and what one process makes of them."""

import json
from pathlib import Path
from typing import Any

import torch
from checkpoints import write_checkpoint, write_hf_checkpoint
from rank_workloads import ASKED, run_alone, tool_calls
from safetensors.torch import save_file

from mistral_local.args import MoeArgs
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.model.transformer import Transformer

MOE = MoeArgs(num_experts=4, num_experts_per_tok=2)
LAYERS = {"n_layers": 4}

# Four layers, four heads, two key/value heads, which four ranks share in pairs; a vocabulary that does not divide.
MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "moe": {"moe": MOE},
    "window": {"sliding_window": [6, None, 9], "shards": 3},
    "all_sliding": {"sliding_window": 6},
    "tied": {"tied": True, "vocab_size": 321},
    "pth": {"pth": True},
    "hf": {"hf": True},
    "hf_moe": {"hf": True, "moe": MOE, "stacked_experts": True},
}
LARGE = {
    "dim": 512,
    "hidden_dim": 2048,
    "n_layers": 4,
    "head_dim": 64,
    "n_heads": 8,
    "n_kv_heads": 4,
    "vocab_size": 8192,
}
"""20 million parameters, so that memory can be told from noise."""

SEQLENS = [10, 1, 14]
INPUT_IDS = torch.arange(3, 3 + sum(SEQLENS)) * 7 % 300


def write_models(folder: Path) -> None:
    """Write each checkpoint, the logits that it gives alone, and its answers."""
    for name, how in MODELS.items():
        how = LAYERS | how
        write = write_hf_checkpoint if how.pop("hf", False) else write_checkpoint
        write(folder / name, **how)
        model = Transformer.from_folder(folder / name)
        torch.save(model.forward(INPUT_IDS, SEQLENS).cpu(), folder / f"{name}.logits")
        if name in ASKED:
            (folder / f"{name}.answers").write_text(json.dumps(run_alone(model, name)), encoding="utf-8")
    demo = Transformer.from_folder(demo_checkpoint(), dtype=torch.float32)
    (folder / "demo.calls").write_text(json.dumps(tool_calls(demo)), encoding="utf-8")
    write_checkpoint(folder / "large", dtype=torch.bfloat16, **LARGE)
    write_adapter(folder / "adapter.safetensors", folder / "moe")
    model = Transformer.from_folder(folder / "moe")
    model.load_lora(folder / "adapter.safetensors")
    torch.save(model.forward(INPUT_IDS, SEQLENS).cpu(), folder / "adapted.logits")


def write_adapter(file: Path, checkpoint: Path) -> None:
    """An adapter for every kind of matrix, in every layer."""
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for name, slot in Transformer.from_folder(checkpoint).weight_slots().items():
        if name.startswith("layers.") and len(slot.shape) == 2:
            target = name.removesuffix(".weight")
            weights[f"{target}.lora_A.weight"] = 0.1 * torch.randn(4, slot.shape[1], generator=generator)
            weights[f"{target}.lora_B.weight"] = 0.1 * torch.randn(slot.shape[0], 4, generator=generator)
    save_file(weights, file)
