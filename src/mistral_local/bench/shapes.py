"""Random checkpoints of known shapes, so that speed can be measured without a download."""

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mistral_local.args import TransformerArgs
from mistral_local.model.transformer import Transformer

SHAPES: dict[str, dict[str, Any]] = {
    "350m": {
        "dim": 1024, "n_layers": 20, "head_dim": 128, "hidden_dim": 3584, "n_heads": 8, "n_kv_heads": 2,
        "norm_eps": 1e-5, "vocab_size": 32768, "rope_theta": 1e6,
    },
    "moe-400m": {
        "dim": 1024, "n_layers": 10, "head_dim": 128, "hidden_dim": 1280, "n_heads": 8, "n_kv_heads": 2,
        "norm_eps": 1e-5, "vocab_size": 32768, "rope_theta": 1e6,
        "moe": {"num_experts": 8, "num_experts_per_tok": 2},
    },
    "7b": {
        "dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
        "norm_eps": 1e-5, "vocab_size": 32768, "rope_theta": 1e6,
    },
}  # fmt: skip
"""params.json of each shape: two small ones for a CPU, and Mistral 7B v0.3."""

TOKENIZER = "mistral_instruct_tokenizer_240323.model.v3"
"""That of 7B v0.3, which mistral_common brings along."""


def write_random_checkpoint(folder: Path, shape: str) -> Path:
    """Write a native checkpoint of bf16 weights, the same for every call, with a tokenizer of as many tokens.

    Matrices are normal with a standard deviation of 0.02, embeddings of 1, the gate of 0.1; norms are 1.
    """
    params = SHAPES[shape]
    with torch.device("meta"):
        slots = Transformer(TransformerArgs.from_dict(dict(params))).weight_slots()
    generator = torch.Generator().manual_seed(1234)
    weights = {name: _draw(name, slot.shape, generator) for name, slot in slots.items()}
    save_file(weights, folder / "consolidated.safetensors")
    (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    shutil.copy(str(files("mistral_common") / "data" / TOKENIZER), folder / "tokenizer.model.v3")
    return folder


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    std = 1.0 if name.startswith("tok_embeddings") else 0.1 if ".gate." in name else 0.02
    return torch.randn(shape, generator=generator).mul_(std).to(torch.bfloat16)
