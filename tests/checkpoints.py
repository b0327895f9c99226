"""Build tiny seeded checkpoints, in the native format and in that of Hugging Face.

Weights are drawn so that every layer matters and logits have a standard deviation of about 2: an error shows.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mistral_local.args import MoeArgs

DEFAULTS: dict[str, Any] = {
    "dim": 32,
    "n_layers": 2,
    "head_dim": 8,
    "hidden_dim": 64,
    "n_heads": 4,
    "n_kv_heads": 2,
    "norm_eps": 1e-5,
    "vocab_size": 320,
    "rope_theta": 10000.0,
}
HF_FIELDS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "norm_eps": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "sliding_window": "sliding_window",
    "tied_embeddings": "tie_word_embeddings",
}
HF_NAMES = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.gate": "block_sparse_moe.gate",
}


def make_params(*, moe: MoeArgs | None = None, tied: bool = False, **params: Any) -> dict[str, Any]:
    """The content of params.json: the tiny defaults, changed by `params`; a value of None leaves the field out."""
    result = DEFAULTS | params
    if moe is not None:
        result["moe"] = {"num_experts": moe.num_experts, "num_experts_per_tok": moe.num_experts_per_tok}
    if tied:
        result["tied_embeddings"] = True
    return {name: value for name, value in result.items() if value is not None}


def tensor_shapes(params: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Native name -> shape of every tensor."""
    dim, hidden, head_dim, vocab = (params[name] for name in ("dim", "hidden_dim", "head_dim", "vocab_size"))
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (vocab, dim)}
    for layer in range(params["n_layers"]):
        prefix = f"layers.{layer}"
        shapes |= {
            f"{prefix}.attention.wq.weight": (params["n_heads"] * head_dim, dim),
            f"{prefix}.attention.wk.weight": (params["n_kv_heads"] * head_dim, dim),
            f"{prefix}.attention.wv.weight": (params["n_kv_heads"] * head_dim, dim),
            f"{prefix}.attention.wo.weight": (dim, params["n_heads"] * head_dim),
            f"{prefix}.attention_norm.weight": (dim,),
            f"{prefix}.ffn_norm.weight": (dim,),
        }
        experts = [f"{prefix}.feed_forward"]
        if moe := params.get("moe"):
            shapes[f"{prefix}.feed_forward.gate.weight"] = (moe["num_experts"], dim)
            experts = [f"{prefix}.feed_forward.experts.{expert}" for expert in range(moe["num_experts"])]
        for expert in experts:
            shapes |= {f"{expert}.w1.weight": (hidden, dim), f"{expert}.w2.weight": (dim, hidden)}
            shapes[f"{expert}.w3.weight"] = (hidden, dim)
    shapes["norm.weight"] = (dim,)
    if not params.get("tied_embeddings"):
        shapes["output.weight"] = (vocab, dim)
    return shapes


def random_weights(params: dict[str, Any], *, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Native name -> tensor, drawn on the CPU from one generator in the order of `tensor_shapes`."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in tensor_shapes(params).items():
        draw = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            draw = 1 + 0.1 * draw
        elif name in ("tok_embeddings.weight", "output.weight"):
            draw *= 2 / shape[1] ** 0.5
        else:
            draw *= (1.5 if ".wq." in name or ".wk." in name else 1.0) / shape[1] ** 0.5
        weights[name] = draw.to(dtype)
    return weights


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    moe: MoeArgs | None = None,
    tied: bool = False,
    pth: bool = False,
    index: bool = True,
    **params: Any,
) -> Path:
    """Write params.json and random weights in the native format.

    Args:
        folder: made if it does not exist.
        shards: how many safetensors files; more than one come with an index unless `index` is false.
        pth: write consolidated.00.pth instead of safetensors.
        params: fields of params.json that differ from the tiny defaults.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = make_params(moe=moe, tied=tied, **params)
    (folder / "params.json").write_text(json.dumps(content))
    weights = random_weights(content, seed=seed, dtype=dtype)
    if pth:
        torch.save(weights, folder / "consolidated.00.pth")
    else:
        save_shards(folder, "consolidated", weights, shards=shards, index=index)
    return folder


def write_hf_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    moe: MoeArgs | None = None,
    tied: bool = False,
    stacked_experts: bool = False,
    index: bool = True,
    **params: Any,
) -> Path:
    """Write config.json and the weights that `write_checkpoint` writes for the same arguments, as transformers does.

    Args:
        stacked_experts: one tensor for all experts (gate_up_proj, down_proj) instead of one per expert.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = make_params(moe=moe, tied=tied, **params)
    (folder / "config.json").write_text(json.dumps(hf_config(content)))
    weights = hf_weights(random_weights(content, seed=seed, dtype=dtype), content)
    if stacked_experts:
        weights = _stacked(weights)
    save_shards(folder, "model", weights, shards=shards, index=index)
    return folder


def save_shards(folder: Path, stem: str, weights: dict[str, Tensor], *, shards: int = 1, index: bool = True) -> None:
    """Write STEM.safetensors, or STEM-0000N-of-0000M.safetensors with neighbouring tensors, and their index."""
    if shards == 1:
        save_file(weights, folder / f"{stem}.safetensors")
        return
    names = list(weights)
    weight_map = {}
    for shard in range(shards):
        file = f"{stem}-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = names[len(names) * shard // shards : len(names) * (shard + 1) // shards]
        save_file({name: weights[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    if index:
        content = {"metadata": {"total_size": sum(t.nbytes for t in weights.values())}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(content))


def hf_config(params: dict[str, Any]) -> dict[str, Any]:
    """config.json that says the same as these params."""
    moe = params.get("moe")
    config: dict[str, Any] = {theirs: params.get(ours) for ours, theirs in HF_FIELDS.items()}
    config |= {
        "architectures": ["MixtralForCausalLM" if moe else "MistralForCausalLM"],
        "model_type": "mixtral" if moe else "mistral",
        "hidden_act": "silu",
        "max_position_embeddings": params.get("max_position_embeddings", 4096),
        "rope_parameters": {"rope_type": "default", "rope_theta": params["rope_theta"]},
        "tie_word_embeddings": bool(params.get("tied_embeddings")),
    }
    if moe:
        config |= {"num_local_experts": moe["num_experts"], "num_experts_per_tok": moe["num_experts_per_tok"]}
    return config


def hf_weights(weights: dict[str, Tensor], params: dict[str, Any]) -> dict[str, Tensor]:
    """The same weights by their Hugging Face names, rows of wq and wk in the order of rotated halves."""
    result = {}
    for name, tensor in weights.items():
        layer = re.match(r"layers\.\d+\.", name)
        prefix, rest = (layer[0], name[layer.end() :]) if layer else ("", name)
        if ".experts." in rest:
            hf_name = rest.replace("feed_forward", "block_sparse_moe")
        elif prefix:
            hf_name = HF_NAMES[rest.removesuffix(".weight")] + ".weight"
        else:
            hf_name = HF_NAMES[rest]
        heads = {"attention.wq.weight": params["n_heads"], "attention.wk.weight": params["n_kv_heads"]}.get(rest)
        if heads:  # rows of a head in pairs (2i, 2i + 1) -> all first ones, then all second ones
            rows, columns = tensor.shape
            tensor = tensor.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
        result[f"model.{prefix}{hf_name}" if prefix else hf_name] = tensor.contiguous()
    return result


def _stacked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put block_sparse_moe.experts.E.w* of each layer into mlp.experts.{gate_up_proj, down_proj}."""
    experts: dict[str, dict[tuple[str, int], Tensor]] = {}
    result = {}
    for name, tensor in weights.items():
        if match := re.fullmatch(r"(model\.layers\.\d+)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.weight", name):
            experts.setdefault(match[1], {})[match[3], int(match[2])] = tensor
        else:
            result[name.replace("block_sparse_moe", "mlp")] = tensor
    for layer, parts in experts.items():
        count = len(parts) // 3
        w1, w2, w3 = (torch.stack([parts[w, expert] for expert in range(count)]) for w in ("w1", "w2", "w3"))
        result[f"{layer}.mlp.experts.gate_up_proj"] = torch.cat((w1, w3), dim=1)
        result[f"{layer}.mlp.experts.down_proj"] = w2
    return result
