"""The rule for params.json: a field is understood, known to be harmless, or refused by its name.

Ignoring a field that changes the computation gives fluent nonsense, so nothing is ignored that is not listed here.
null means absent.
"""

from typing import Any

from mistral_local.args.json_object import shown
from mistral_local.errors import ParamsError, UnsupportedCheckpointError

UNSUPPORTED = {
    "vision_encoder": "images",
    "multimodal": "images or audio",
    "audio": "audio",
    "audio_encoder": "audio",
    "ada_rms_norm_t_cond": "streaming audio",
    "ada_rms_norm_t_cond_dim": "streaming audio",
    "yarn": "YaRN positions",
    "llama_4_scaling": "position-dependent attention scaling",
    "q_lora_rank": "multi-head latent attention",
    "kv_lora_rank": "multi-head latent attention",
    "qk_nope_head_dim": "multi-head latent attention",
    "qk_rope_head_dim": "multi-head latent attention",
    "v_head_dim": "multi-head latent attention",
    "lora": "LoRA layers inside params.json (merge an adapter with load_lora instead)",
}
"""Fields that change the computation in a way that is not implemented, and what they ask for."""

HARMLESS: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    "activation": (("silu",), "the only activation of these models"),
    "use_biases": ((False,), "no bias is what is computed"),
    "causal": ((True,), "causal attention is what is computed"),
    "dtype": (None, "every tensor says its own dtype"),
    "torch_dtype": (None, "every tensor says its own dtype"),
    "model_parallel": (None, "how training was spread over devices"),
}
"""Fields that change nothing: the values for which that holds (None: any), and why."""

HARMLESS_MOE: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    "num_shared_experts": ((0,), "no shared expert is what is computed"),
    "first_k_dense_replace": ((0,), "every layer is a mixture"),
    "route_every_n": ((1,), "every layer is a mixture"),
    "num_expert_groups": ((1,), "one group limits nothing"),
    "num_expert_groups_per_tok": ((1,), "one group limits nothing"),
    "routed_scale": ((1,), "a factor of one"),
    "renorm_strategy": (("WEIGHTS",), "weights of the chosen experts add up to one"),
    "use_load_balancing_bias": ((False,), "no bias is what is computed"),
    "expert_parallel": (None, "how training was spread over devices"),
    "expert_model_parallel": (None, "how training was spread over devices"),
}


def understood_fields(
    params: dict[str, Any],
    known: set[str],
    harmless: dict[str, tuple[tuple[Any, ...] | None, str]],
    *,
    prefix: str = "",
) -> dict[str, Any]:
    """Return the fields of `known` that are present; drop harmless ones and nulls.

    Raises:
        UnsupportedCheckpointError: for a field of UNSUPPORTED, or a harmless one with a value that is not.
        ParamsError: for a field nobody has heard of.
    """
    result = {}
    for name, value in params.items():
        if value is None:
            continue
        if name in UNSUPPORTED and not prefix:
            if value is not False and value != {}:
                raise UnsupportedCheckpointError(f"{name}: {UNSUPPORTED[name]} is not supported yet")
        elif name in known:
            result[name] = value
        elif name in harmless:
            check_harmless(prefix + name, value, harmless[name][0])
        else:
            raise ParamsError(f"{prefix}{name}: unknown field with the value {shown(value)}; it may change the result")
    return result


def check_harmless(name: str, value: object, allowed: tuple[Any, ...] | None) -> None:
    """Refuse `value` unless it is one of `allowed` (None allows anything); true is not 1."""
    if allowed is None or any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
        return
    raise UnsupportedCheckpointError(
        f"{name}: only {' or '.join(map(shown, allowed))} is supported, found {shown(value)}"
    )
