"""Which kernels compute a model's steps, and why not faster ones, in words."""

from __future__ import annotations

from mistral_local.attention.select import reasons_against
from mistral_local.config import EngineConfig, KVDtype
from mistral_local.engine.step_graphs import sizes_of_graphs
from mistral_local.kvcache.storage import storage_dtype
from mistral_local.model.transformer import Transformer

MADE_FOR = {"cuda": ("triton", "xformers"), "cpu": ("native",)}
"""The backends of attention that are made for a kind of device, the fastest first."""


def block_size_for(model: Transformer, kv_dtype: KVDtype) -> int:
    """Tokens of a KV cache block that the model's attention reads best."""
    return model.attention_backend(storage_dtype(kv_dtype, model.dtype)).block_size


def name_of_road(model: Transformer, config: EngineConfig) -> str:
    """What computes a step: `triton attention, recorded steps`."""
    recorded = ", recorded steps" if sizes_of_graphs(model, config) else ""
    return f"{model.attention_backend(storage_dtype(config.kv_dtype, model.dtype)).name} attention{recorded}"


def reasons_against_faster_roads(model: Transformer, config: EngineConfig) -> list[str]:
    """Why the backends before the chosen one do not serve, a line for each that is made for the device."""
    kv_dtype = storage_dtype(config.kv_dtype, model.dtype)
    chosen = model.attention_backend(kv_dtype).name
    against = reasons_against(model.device, model.dtype, model.args.head_dim, kv_dtype)
    names = MADE_FOR.get(model.device.type, ())
    faster = names[: names.index(chosen)] if chosen in names else names
    return [f"{chosen} attention, not {name}: {against[name][0]}" for name in faster]
