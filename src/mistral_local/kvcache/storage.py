"""The tensors behind the blocks of the KV cache."""

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one layer.

    Attributes:
        k, v: [num_slots, n_kv_heads, head_dim]; slot = block id * block_size + offset in the block.
            Memory is not initialised: read only slots that were written.
    """

    __slots__ = ("k", "v")

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self.k, self.v = k, v

    def write(self, k: Tensor, v: Tensor, slot_mapping: Tensor) -> None:
        """Store new keys and values in place.

        Args:
            k, v: [T, n_kv_heads, head_dim], same dtype and device as the cache.
            slot_mapping: [T] int64 flat slots, all different.

        Layout after PagedAttention (arXiv:2309.06180, section 4).
        """
        self.k.index_copy_(0, slot_mapping, k)
        self.v.index_copy_(0, slot_mapping, v)


class KVCache:
    """The KV cache of a model: one LayerCache per layer, all with the same block ids."""

    def __init__(
        self,
        *,
        n_layers: int,
        num_blocks: int,
        block_size: int,
        n_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.block_size = block_size
        shape = (num_blocks * block_size, n_kv_heads, head_dim)
        self.layers = [
            LayerCache(torch.empty(shape, dtype=dtype, device=device), torch.empty(shape, dtype=dtype, device=device))
            for _ in range(n_layers)
        ]


def kv_bytes_per_token(*, n_layers: int, n_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """Bytes of keys and values that one token takes in all layers."""
    return 2 * n_layers * n_kv_heads * head_dim * dtype.itemsize
