"""Training state -> a checkpoint folder in the native format."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save

from scripts.demo_data.network import ARGS
from scripts.demo_data.tekken import write_tekken

MAX_SEQ_LEN = 4096


def params() -> dict[str, object]:
    """Return the content of params.json."""
    fields = {name: value for name, value in asdict(ARGS).items() if value is not None}
    return fields | {"max_seq_len": MAX_SEQ_LEN}


def export_checkpoint(folder: Path, checkpoint: Path) -> None:
    """Write params.json, consolidated.safetensors in bf16 and tekken.json; tied weights are stored once."""
    state = torch.load(folder / "state.pt", weights_only=True)
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state["model"].items()}
    write_tekken(checkpoint / "tekken.json")
    (checkpoint / "consolidated.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    (checkpoint / "params.json").write_text(json.dumps(params(), indent=2) + "\n", encoding="utf-8")
    print(f"step {state['step']}, {state['seconds']:.0f} s of training -> {checkpoint}")
