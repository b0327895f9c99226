"""Tiny random models of transformers, drawn so that a fault shows: sharp attention, wide logits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM

WINDOW = 9
VOCAB = 311


@dataclass(frozen=True)
class Kind:
    """One family of tiny models: the configuration class, the model class and what differs."""

    config: type
    model: type
    options: dict[str, Any]


KINDS = {
    "dense": Kind(MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "windowed": Kind(MistralConfig, MistralForCausalLM, {"sliding_window": WINDOW}),
    "wide heads": Kind(MistralConfig, MistralForCausalLM, {"sliding_window": None, "head_dim": 32}),
    "multi-query": Kind(MistralConfig, MistralForCausalLM, {"sliding_window": None, "num_key_value_heads": 1}),
    "tied": Kind(MistralConfig, MistralForCausalLM, {"sliding_window": None, "tie_word_embeddings": True}),
    "mixture": Kind(
        MixtralConfig,
        MixtralForCausalLM,
        {"sliding_window": None, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "windowed mixture": Kind(
        MixtralConfig,
        MixtralForCausalLM,
        {"sliding_window": WINDOW, "num_local_experts": 8, "num_experts_per_tok": 3},
    ),
}


def make_hf_model(kind: str, *, seed: int = 0) -> Any:
    """A model of transformers in fp32, with eager attention."""
    torch.manual_seed(seed)
    base: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "rope_theta": 1e4,
        "attn_implementation": "eager",
    }
    config = KINDS[kind].config(**(base | KINDS[kind].options))
    model = KINDS[kind].model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Queries and keys are drawn wider, so that attention is far from uniform.
            wide = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=wide * parameter.shape[-1] ** -0.5)
        if not config.tie_word_embeddings:
            model.lm_head.weight.mul_(2)
    return model


def save_hf_model(model: Any, folder: Path) -> Path:
    """Write it as transformers does: config.json and model.safetensors."""
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def hf_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    """[T, vocab] fp32 of one sequence."""
    return model(torch.tensor([tokens])).logits[0].float()


@torch.no_grad()
def largest_attention_weight(model: Any, tokens: list[int]) -> float:
    """Mean over layers, heads and the later queries of the largest attention weight; 1 / visible keys is uniform."""
    attentions = model(torch.tensor([tokens]), output_attentions=True).attentions
    return float(torch.stack([layer[0, :, 8:].max(-1).values.mean() for layer in attentions]).mean())


@torch.no_grad()
def hf_greedy(model: Any, prompt: list[int], num_tokens: int) -> list[int]:
    """Greedy continuation by recomputing everything."""
    tokens = list(prompt)
    for _ in range(num_tokens):
        tokens.append(int(hf_logits(model, tokens)[-1].argmax()))
    return tokens[len(prompt) :]
