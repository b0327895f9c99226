"""Random weights of known shapes, so that speed can be measured without a download."""

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mistral_local.args import TransformerArgs
from mistral_local.model.transformer import Transformer

_7B: dict[str, Any] = {
    "dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
    "norm_eps": 1e-5, "vocab_size": 32768, "rope_theta": 1e6,
}  # fmt: skip
_350M = _7B | {"dim": 1024, "n_layers": 20, "hidden_dim": 3584, "n_heads": 8, "n_kv_heads": 2}
_NEMO = _7B | {"dim": 5120, "n_layers": 40, "vocab_size": 131072}
_TINY = _350M | {"dim": 128, "n_layers": 2, "head_dim": 32, "hidden_dim": 256, "n_heads": 4, "vocab_size": 512}
_EXPERTS = {"moe": {"num_experts": 8, "num_experts_per_tok": 2}}

SHAPES: dict[str, dict[str, Any]] = {
    "350m": _350M,
    "moe-400m": _350M | {"n_layers": 10, "hidden_dim": 1280} | _EXPERTS,
    "7b": _7B,
    "nemo": _NEMO,
    "small24b": _NEMO | {"hidden_dim": 32768, "rope_theta": 1e8},
    "mixtral": _7B | {"vocab_size": 32000} | _EXPERTS,
    "tiny": _TINY,
    "tiny-moe": _TINY | _EXPERTS,
}
"""params.json of each shape: two for a CPU, Mistral 7B v0.3, Nemo 12B, Small 24B (2501), Mixtral 8x7B, and two for tests."""

TOKENIZER = "mistral_instruct_tokenizer_240323.model.v3"
"""That of 7B v0.3, which mistral_common brings along."""

CHECKPOINT_SHAPES = tuple(name for name, params in SHAPES.items() if params["vocab_size"] == 32768)
"""Those that this tokenizer suits."""


def write_random_checkpoint(folder: Path, shape: str) -> Path:
    """Write a native checkpoint of bf16 weights, the same for every call, with a tokenizer of as many tokens.

    Args:
        shape: one of CHECKPOINT_SHAPES.

    Weights are as draw_weight() makes them.
    """
    params = SHAPES[shape]
    with torch.device("meta"):
        slots = Transformer(TransformerArgs.from_dict(dict(params))).weight_slots()
    generator = torch.Generator().manual_seed(1234)
    weights = {name: draw_weight(name, slot.shape, generator) for name, slot in slots.items()}
    save_file(weights, folder / "consolidated.safetensors")
    (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    shutil.copy(str(files("mistral_common") / "data" / TOKENIZER), folder / "tokenizer.model.v3")
    return folder


def draw_weight(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A bf16 tensor of a native checkpoint on the generator's device.

    Matrices are normal with a standard deviation of 0.02, embeddings of 1, the gate of 0.1; norms are 1.
    """
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16, device=generator.device)
    std = 1.0 if name.startswith("tok_embeddings") else 0.1 if ".gate." in name else 0.02
    return torch.randn(shape, generator=generator, device=generator.device).mul_(std).to(torch.bfloat16)
