"""config.json of a Hugging Face checkpoint (model types mistral and mixtral), put into the words of params.json.

As strict as params.json: a field is translated, harmless, or refused by its name.
"""

from typing import Any

from mistral_local.args.fields import check_harmless
from mistral_local.args.json_object import shown
from mistral_local.errors import ParamsError, UnsupportedCheckpointError

SAME_MEANING = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
    "num_attention_heads": "n_heads",
    "rms_norm_eps": "norm_eps",
    "vocab_size": "vocab_size",
}

UNSUPPORTED = {
    "layer_types": "a window per layer",
    "use_sliding_window": "a switchable window",
    "partial_rotary_factor": "partial rotary embeddings",
    "num_experts": "experts under another name than num_local_experts",
    "auto_map": "code inside the checkpoint",
}

HARMLESS: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    "hidden_act": (("silu",), "the only activation of these models"),
    "attention_bias": ((False,), "no bias is what is computed"),
    "mlp_bias": ((False,), "no bias is what is computed"),
    "pretraining_tp": ((1,), "no slicing is what is computed"),
    "chunk_size_feed_forward": ((0,), "no chunking is what is computed"),
    "is_encoder_decoder": ((False,), "decoder only"),
    "add_cross_attention": ((False,), "decoder only"),
    "is_decoder": (None, "decoder only, whatever it says"),
    "dtype": (None, "every tensor says its own dtype"),
    "torch_dtype": (None, "every tensor says its own dtype"),
    "use_bfloat16": (None, "every tensor says its own dtype"),
    "attention_dropout": (None, "training only"),
    "initializer_range": (None, "training only"),
    "output_router_logits": (None, "training only"),
    "router_aux_loss_coef": (None, "training only"),
    "router_jitter_noise": (None, "training only"),
    "bos_token_id": (None, "the tokenizer says it"),
    "eos_token_id": (None, "the tokenizer says it"),
    "pad_token_id": (None, "the tokenizer says it"),
    "unk_token_id": (None, "the tokenizer says it"),
    "tokenizer_class": (None, "the tokenizer says it"),
    "use_cache": (None, "how to run, not what the model is"),
    "return_dict": (None, "how to run, not what the model is"),
    "output_attentions": (None, "how to run, not what the model is"),
    "output_hidden_states": (None, "how to run, not what the model is"),
    "_attn_implementation_autoset": (None, "how to run, not what the model is"),
    "_name_or_path": (None, "provenance"),
    "transformers_version": (None, "provenance"),
}

TRANSLATED = {
    "num_key_value_heads", "head_dim", "sliding_window", "tie_word_embeddings", "max_position_embeddings",
    "quantization_config",
}  # fmt: skip
RENAMED = {
    "n_kv_heads": "num_key_value_heads",
    "tied_embeddings": "tie_word_embeddings",
    "moe.num_experts": "num_local_experts",
    "moe.num_experts_per_tok": "num_experts_per_tok",
}
ROPE = {"rope_theta", "rope_parameters", "rope_scaling"}
MIXTURE = {"num_local_experts", "num_experts_per_tok"}


def params_from_hf(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of params.json that say the same as this config.json.

    Raises:
        UnsupportedCheckpointError: another model type, or a field that asks for something else.
        ParamsError: a field is missing, unknown or malformed.
    """
    model_type = config.get("model_type")
    if model_type not in ("mistral", "mixtral"):
        raise UnsupportedCheckpointError(
            f'model_type: only "mistral" and "mixtral" of Hugging Face are supported, found {shown(model_type)}'
        )
    _check_architectures(config.get("architectures"), model_type)
    _check_fields(config, MIXTURE if model_type == "mixtral" else set())
    params = {ours: _required(config, theirs) for theirs, ours in SAME_MEANING.items()}
    if "num_key_value_heads" not in config:
        raise ParamsError("num_key_value_heads: missing; transformers would take 8, write that or null for all heads")
    n_kv_heads, head_dim = config["num_key_value_heads"], config.get("head_dim")
    params["n_kv_heads"] = params["n_heads"] if n_kv_heads is None else n_kv_heads
    params["head_dim"] = _head_dim(params["dim"], params["n_heads"]) if head_dim is None else head_dim
    params["rope_theta"] = _rope_theta(config)
    params["tied_embeddings"] = config.get("tie_word_embeddings")
    params["max_position_embeddings"] = config.get("max_position_embeddings")
    params["sliding_window"] = config.get("sliding_window")
    params["quantization_config"] = config.get("quantization_config")
    if model_type == "mistral" and "sliding_window" not in config:
        raise ParamsError("sliding_window: missing; transformers would take 4096, write that or null")
    if model_type == "mixtral":
        experts, per_token = _required(config, "num_local_experts"), _required(config, "num_experts_per_tok")
        params["moe"] = {"num_experts": experts, "num_experts_per_tok": per_token}
    return params


def in_hf_words(message: str) -> str:
    """Put the field that starts a message about params.json back into the words of config.json.

    >>> in_hf_words("n_layers: missing")
    'num_hidden_layers: missing'
    """
    names = {ours: theirs for theirs, ours in SAME_MEANING.items()} | RENAMED
    field, colon, rest = message.partition(":")
    return names.get(field, field) + colon + rest


def _check_architectures(architectures: object, model_type: str) -> None:
    expected = ["MistralForCausalLM" if model_type == "mistral" else "MixtralForCausalLM"]
    if architectures is not None and architectures != expected:
        raise UnsupportedCheckpointError(
            f"architectures: only {shown(expected)} is supported for {model_type}, found {shown(architectures)}"
        )


def _check_fields(config: dict[str, Any], mixture: set[str]) -> None:
    known = SAME_MEANING.keys() | TRANSLATED | ROPE | mixture | {"model_type", "architectures"}
    for name, value in config.items():
        if value is None or name in known:
            continue
        if name in UNSUPPORTED:
            raise UnsupportedCheckpointError(f"{name}: {UNSUPPORTED[name]} is not supported yet")
        if name not in HARMLESS:
            raise ParamsError(f"{name}: unknown field with the value {shown(value)}; it may change the result")
        check_harmless(name, value, HARMLESS[name][0])


def _required(config: dict[str, Any], name: str) -> Any:
    if config.get(name) is None:
        raise ParamsError(f"{name}: missing")
    return config[name]


def _head_dim(dim: object, n_heads: object) -> int:
    if type(dim) is int and type(n_heads) is int and n_heads > 0 and dim % n_heads == 0:
        return dim // n_heads
    raise ParamsError(f"head_dim: missing, and hidden_size ({shown(dim)}) is no multiple of num_attention_heads")


def _rope_theta(config: dict[str, Any]) -> Any:
    """rope_theta stands at the top level (transformers 4) or inside rope_parameters (transformers 5)."""
    thetas = [config["rope_theta"]] if config.get("rope_theta") is not None else []
    for name in ("rope_parameters", "rope_scaling"):
        section = config.get(name)
        if section is None:
            continue
        if not isinstance(section, dict):
            raise ParamsError(f"{name}: expected an object, found {shown(section)}")
        for key, value in section.items():
            if value is None:
                continue
            if key == "rope_theta":
                thetas.append(value)
            elif key not in ("rope_type", "type") or value != "default":
                raise UnsupportedCheckpointError(
                    f"{name}.{key}: scaled positions are not supported, found {shown(value)}"
                )
    if not thetas:
        raise ParamsError("rope_theta: missing")
    if any(theta != thetas[0] for theta in thetas):
        raise ParamsError(f"rope_theta: expected one value, found {shown(thetas)}")
    return thetas[0]
