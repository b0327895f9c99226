"""How large the KV cache may be."""

import torch

from mistral_local.args import TransformerArgs
from mistral_local.config import EngineConfig
from mistral_local.errors import OutOfMemoryError
from mistral_local.kvcache.storage import kv_bytes_per_token
from mistral_local.memory import free_bytes, in_words

CPU_SHARE = 0.25
"""Of the free host memory, at most this much for keys and values."""

CUDA_SHARE = 0.9
"""Of the free device memory after loading, at most this much; the rest is for activations."""


def plan_kv_cache(args: TransformerArgs, config: EngineConfig, *, device: torch.device, dtype: torch.dtype) -> int:
    """Number of blocks: enough for every sequence's full context, bounded by the memory that is free.

    Raises:
        OutOfMemoryError: if not even one block fits.
    """
    block_bytes = config.block_size * kv_bytes_per_token(
        n_layers=args.n_layers, n_kv_heads=args.n_kv_heads, head_dim=args.head_dim, dtype=dtype
    )
    wanted = config.max_num_seqs * -(-config.max_context // config.block_size)
    limit = _memory_limit(config, device)
    if limit is None:
        return wanted
    if limit < block_bytes:
        raise OutOfMemoryError(f"the KV cache needs {in_words(block_bytes)} a block, {in_words(limit)} may be used")
    return min(wanted, limit // block_bytes)


def _memory_limit(config: EngineConfig, device: torch.device) -> int | None:
    """Bytes that the cache may take; None when nobody can say."""
    if config.kv_memory_bytes is not None:
        return config.kv_memory_bytes
    free = free_bytes(device)
    return None if free is None else int(free * (CUDA_SHARE if device.type == "cuda" else CPU_SHARE))
