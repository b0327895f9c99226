"""The KV cache of an engine: how large it may be, its books and its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from mistral_local.config import EngineConfig
from mistral_local.engine.runner_memory import RunnerMemory
from mistral_local.engine.step_graphs import sizes_of_graphs
from mistral_local.errors import OutOfMemoryError
from mistral_local.kvcache.block_pool import BlockPool
from mistral_local.kvcache.books import KVBooks, most_blocks_of
from mistral_local.kvcache.groups import KVGroups, group_layers
from mistral_local.kvcache.storage import KVCache, kv_bytes_per_token, storage_dtype
from mistral_local.memory import free_bytes, in_words, is_out_of_memory
from mistral_local.model.transformer import Transformer

CPU_SHARE = 0.25
"""Of the free host memory, at most this much for keys and values."""

CUDA_SHARE = 0.9
"""Of the free device memory after loading, at most this much; the rest is for activations."""


@dataclass(frozen=True, slots=True)
class KVMemory:
    """Which blocks belong to whom, and the tensors behind them.  Knows no model, so that a model may keep it."""

    pool: BlockPool
    cache: KVCache
    _of_runners: dict[EngineConfig, RunnerMemory] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def allocate(cls, model: Transformer, config: EngineConfig, *, num_blocks: int | None = None) -> KVMemory:
        """Make room for every sequence's full context, or for as much as the memory that is free allows.

        Args:
            num_blocks: how many, where that has been decided.

        Raises:
            OutOfMemoryError: if not even one block fits, or the allocation fails.
        """
        num_blocks = plan_blocks(model, config) if num_blocks is None else num_blocks
        try:
            cache = KVCache(
                groups=_own_groups(model, config),
                num_blocks=num_blocks,
                block_size=config.block_size,
                n_kv_heads=model.num_kv_heads,
                head_dim=model.args.head_dim,
                dtype=storage_dtype(config.kv_dtype, model.dtype),
                device=model.device,
                has_scratch=_has_padding(model, config),
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            needed = in_words(num_blocks * _block_bytes(model, config))
            raise OutOfMemoryError(f"the KV cache needs {needed} on {model.device}, which could not be had") from error
        return cls(BlockPool(num_blocks), cache)

    def books(self, config: EngineConfig) -> KVBooks:
        """The books of an engine that begins on this memory."""
        return KVBooks(
            self.pool,
            self.cache.groups.windows,
            block_size=config.block_size,
            max_step_tokens=config.max_num_batched_tokens,
        )

    def runner_memory(self, model: Transformer, config: EngineConfig) -> RunnerMemory:
        """What the runners of a configuration share, one after the other; that of the last configuration is kept."""
        if config not in self._of_runners:
            self._of_runners.clear()
            self._of_runners[config] = RunnerMemory.allocate(model, self.cache, config)
        return self._of_runners[config]

    def suits(self, model: Transformer, config: EngineConfig) -> bool:
        """Whether an engine of this model and configuration can use it and would gain nothing by more."""
        stored = (self.cache.device, self.cache.dtype)
        is_current = stored == (model.device, storage_dtype(config.kv_dtype, model.dtype))
        return (
            is_current
            and self.cache.block_size == config.block_size
            and self.cache.has_scratch >= _has_padding(model, config)
            and self.cache.groups == _own_groups(model, config)
            and self.pool.num_blocks >= _wanted_blocks(model, config)
            and self.pool.num_free == self.pool.num_blocks
        )


def plan_blocks(model: Transformer, config: EngineConfig) -> int:
    """How many blocks are wanted, as far as they fit here.

    Raises:
        OutOfMemoryError: if not even one fits.
    """
    wanted, block_bytes = _wanted_blocks(model, config), _block_bytes(model, config)
    limit = _limit_bytes(config, model.device)
    if limit is None:
        return wanted
    num_blocks = limit // block_bytes - _has_padding(model, config)
    if num_blocks < 1:
        raise OutOfMemoryError(f"the KV cache needs {in_words(block_bytes)} a block, {in_words(limit)} may be used")
    return min(wanted, num_blocks)


def blocks_of_one(model: Transformer, config: EngineConfig, num_tokens: int) -> int:
    """Most blocks that a sequence of so many tokens holds at one time."""
    return most_blocks_of(
        num_tokens,
        _groups(model, config).windows,
        block_size=config.block_size,
        max_step_tokens=config.max_num_batched_tokens,
    )


def _groups(model: Transformer, config: EngineConfig) -> KVGroups:
    return group_layers([model.args.window(layer) for layer in range(model.args.n_layers)], config.max_context)


def _own_groups(model: Transformer, config: EngineConfig) -> KVGroups:
    """Those of the layers that are here."""
    return _groups(model, config).part(model.world.place.layers(model.args.n_layers))


def _wanted_blocks(model: Transformer, config: EngineConfig) -> int:
    return config.max_num_seqs * blocks_of_one(model, config, config.max_context)


def _has_padding(model: Transformer, config: EngineConfig) -> bool:
    """Whether steps are padded, to the size of a graph; padding writes to a block of its own."""
    return bool(sizes_of_graphs(model, config))


def _block_bytes(model: Transformer, config: EngineConfig) -> int:
    return config.block_size * kv_bytes_per_token(
        n_layers=_own_groups(model, config).layers_per_group,
        n_kv_heads=model.num_kv_heads,
        head_dim=model.args.head_dim,
        dtype=storage_dtype(config.kv_dtype, model.dtype),
    )


def _limit_bytes(config: EngineConfig, device: torch.device) -> int | None:
    """Bytes that the cache may take; None when nobody can say."""
    if config.kv_memory_bytes is not None:
        return config.kv_memory_bytes
    free = free_bytes(device)
    return None if free is None else int(free * (CUDA_SHARE if device.type == "cuda" else CPU_SHARE))
