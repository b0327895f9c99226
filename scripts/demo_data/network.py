"""The network of the demo checkpoint, its first weights and its loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from one_file_ref import ModelArgs, Transformer
from scripts.demo_data.tekken import NUM_RANKS, NUM_SPECIAL_TOKENS

ARGS = ModelArgs(
    dim=256,
    n_layers=4,
    head_dim=64,
    hidden_dim=768,
    n_heads=4,
    n_kv_heads=2,
    norm_eps=1e-5,
    vocab_size=NUM_SPECIAL_TOKENS + NUM_RANKS,
    rope_theta=1e4,
    tied_embeddings=True,
)


def hidden(model: Transformer, tokens: Tensor) -> Tensor:
    """[B, T] token ids -> [B, T, dim] before the output matrix, so that only supervised positions need logits."""
    x: Tensor = model.tok_embeddings(tokens)
    for layer in model.layers:
        x = layer(x)
    normed: Tensor = model.norm(x)
    return normed


def loss_of(model: Transformer, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean cross-entropy (nats) and accuracy over supervised tokens; ids and mask are [B, T + 1]."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = hidden(model, ids[:, :-1])[mask[:, 1:]]
        logits = F.linear(states, model.tok_embeddings.weight).float()
    targets = ids[:, 1:][mask[:, 1:]]
    return F.cross_entropy(logits, targets), (logits.argmax(-1) == targets).float().mean()


def make_model(seed: int) -> Transformer:
    """Return a model with small random weights."""
    torch.manual_seed(seed)
    model = Transformer(ARGS)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            fan_in = ARGS.dim if "tok_embeddings" in name else parameter.shape[1]
            scale = 0.5 if name.endswith(("wo.weight", "w2.weight")) else 1.0
            torch.nn.init.normal_(parameter, std=scale * fan_in**-0.5)
    return model
