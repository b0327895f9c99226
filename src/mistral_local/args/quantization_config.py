"""`quantization_config` of compressed-tensors and transformers, put into the words of `quantization`.

It stands in params.json and config.json alike.  A field is translated, harmless, or refused by its name.
"""

from typing import Any

from mistral_local.args.fields import check_harmless
from mistral_local.args.json_object import shown
from mistral_local.errors import ParamsError, UnsupportedCheckpointError

SECTION = "quantization_config"
BLOCK = [128, 128]

Allowed = tuple[tuple[Any, ...] | None, str]

COMPRESSED_TENSORS: dict[str, Allowed] = {
    "quant_method": (None, "chosen by it"),
    "format": (("float-quantized", "naive-quantized"), "fp8 as it is"),
    "quantization_status": (("compressed",), "the file holds the bits"),
    "kv_cache_scheme": ((None,), "its scales would be tensors that nobody reads"),
    "sparsity_config": (({},), "nothing is left out"),
    "moe_sparsity_config": (({},), "nothing is left out"),
    "transform_config": (({},), "nothing is rotated"),
    "ignore": (None, "which matrices are rounded, their tensors say"),
    "global_compression_ratio": (None, "provenance"),
    "version": (None, "provenance"),
}
GROUP: dict[str, Allowed] = {
    "targets": (None, "which matrices are rounded, their tensors say"),
    "format": (("float-quantized", "naive-quantized"), "fp8 as it is"),
    "input_activations": (None, "activations are not rounded here"),
    "output_activations": ((None,), "activations are not rounded here"),
}
WEIGHTS: dict[str, Allowed] = {
    "type": (("float",), "fp8"),
    "num_bits": ((8,), "fp8"),
    "symmetric": ((True,), "no zero points"),
    "dynamic": ((False,), "the scales are stored"),
    "group_size": ((None,), "a scale per block, row or matrix"),
    "scale_dtype": (None, "every tensor says its own dtype"),
    "zp_dtype": (None, "no zero points"),
    "actorder": ((False,), "columns stand where they stood"),
    "observer": (None, "how the scales were found"),
    "observer_kwargs": (None, "how the scales were found"),
}
FINE_GRAINED: dict[str, Allowed] = {
    "quant_method": (None, "chosen by it"),
    "fmt": (("e4m3",), "the only fp8 of these models"),
    "scale_fmt": (("float",), "scales that are floats"),
    "activation_scheme": (None, "activations are not rounded here"),
    "modules_to_not_convert": (None, "which matrices are rounded, their tensors say"),
    "dequantize": (None, "how to run, not what the model is"),
}
SCHEME_OF_STRATEGY = {"tensor": None, "channel": "CHANNEL", "block": "BLOCK"}


def quantization_from_config(section: object) -> dict[str, Any]:
    """The fields of `quantization` that say the same.

    Formats: https://github.com/vllm-project/compressed-tensors (`float-quantized`, for params.json too), and `fp8` of
    transformers' FineGrainedFP8Config.

    Raises:
        UnsupportedCheckpointError: another method or format, such as NVFP4; the field is named.
        ParamsError: a field is unknown or malformed.
    """
    config = _object(SECTION, section)
    method = config.get("quant_method", "compressed-tensors" if "config_groups" in config else None)
    if method == "compressed-tensors":
        scheme = _compressed_tensors(config)
    elif method == "fp8":
        _check(SECTION, config, FINE_GRAINED, {"weight_block_size"})
        scheme = None if config.get("weight_block_size") is None else "BLOCK"
        _check_block(f"{SECTION}.weight_block_size", config.get("weight_block_size") or BLOCK)
    else:
        raise UnsupportedCheckpointError(
            f'{SECTION}.quant_method: only "compressed-tensors" and "fp8" are supported, found {shown(method)}'
        )
    return {"qformat_weight": "fp8_e4m3", "qscheme_act": "NO_SCALES", "qscheme_weight": scheme}


def _compressed_tensors(config: dict[str, Any]) -> str | None:
    _check(SECTION, config, COMPRESSED_TENSORS, {"config_groups"})
    groups = _object(f"{SECTION}.config_groups", config.get("config_groups"))
    if len(groups) != 1:
        raise UnsupportedCheckpointError(f"{SECTION}.config_groups: only one is supported, found {shown(list(groups))}")
    (name, group), *_ = groups.items()
    where = f"{SECTION}.config_groups.{name}"
    _check(where, _object(where, group), GROUP, {"weights"})
    weights = _object(f"{where}.weights", group.get("weights"))
    _check(f"{where}.weights", weights, WEIGHTS, {"strategy", "block_structure"})
    for field in ("type", "num_bits"):
        check_harmless(f"{where}.weights.{field}", weights.get(field), WEIGHTS[field][0])
    strategy = weights.get("strategy")
    if strategy not in SCHEME_OF_STRATEGY:
        raise UnsupportedCheckpointError(
            f"{where}.weights.strategy: only {' or '.join(SCHEME_OF_STRATEGY)} is supported, found {shown(strategy)}"
        )
    if strategy == "block":
        _check_block(f"{where}.weights.block_structure", weights.get("block_structure"))
    return SCHEME_OF_STRATEGY[strategy]


def _check(where: str, section: dict[str, Any], harmless: dict[str, Allowed], translated: set[str]) -> None:
    for name, value in section.items():
        if value is None or name in translated:
            continue
        if name not in harmless:
            raise ParamsError(f"{where}.{name}: unknown field with the value {shown(value)}; it may change the result")
        check_harmless(f"{where}.{name}", value, harmless[name][0])


def _check_block(where: str, block: object) -> None:
    if block not in (BLOCK, "128x128"):
        raise UnsupportedCheckpointError(f"{where}: only {BLOCK} is supported, found {shown(block)}")


def _object(where: str, section: object) -> dict[str, Any]:
    if not isinstance(section, dict):
        raise ParamsError(f"{where}: expected an object, found {shown(section)}")
    return section
