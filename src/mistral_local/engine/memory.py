"""How large the KV cache may be."""

import os

import torch

from mistral_local.args import TransformerArgs
from mistral_local.config import EngineConfig
from mistral_local.errors import OutOfMemoryError
from mistral_local.kvcache.storage import kv_bytes_per_token

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
    limit = config.kv_memory_bytes if config.kv_memory_bytes is not None else _free_share(device)
    num_blocks = min(wanted, limit // block_bytes)
    if num_blocks < 1:
        raise OutOfMemoryError(f"the KV cache needs {block_bytes} bytes a block, {limit} bytes may be used")
    return num_blocks


def free_bytes(device: torch.device) -> int:
    """Memory on a device that nobody uses."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_share(device: torch.device) -> int:
    return int(free_bytes(device) * (CUDA_SHARE if device.type == "cuda" else CPU_SHARE))
