"""The tensors behind the blocks of the KV cache."""

import torch
from torch import Tensor

from mistral_local.kvcache.groups import KVGroups


class LayerCache:
    """Keys and values of one layer.

    Attributes:
        k, v: [num_slots, n_kv_heads, head_dim]; slot = block id * block_size + offset in the block.
            Memory is not initialised: read only slots that were written.
        group: which block tables say where its keys lie.
    """

    __slots__ = ("group", "k", "v")

    def __init__(self, k: Tensor, v: Tensor, group: int = 0) -> None:
        self.k, self.v, self.group = k, v, group

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
    """The KV cache of a model: one LayerCache per layer.

    Layers of different groups that stand at the same place in their groups share memory: a block belongs to one group.
    Behind the last block lies one that nobody is given and nobody reads: what padding writes goes to `scratch_slot` in it.
    """

    def __init__(
        self,
        *,
        groups: KVGroups,
        num_blocks: int,
        block_size: int,
        n_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.groups, self.num_blocks, self.block_size, self.device = groups, num_blocks, block_size, device
        self.scratch_slot = num_blocks * block_size
        shape = (self.scratch_slot + block_size, n_kv_heads, head_dim)
        self._memory = [
            (torch.empty(shape, dtype=dtype, device=device), torch.empty(shape, dtype=dtype, device=device))
            for _ in range(groups.layers_per_group)
        ]
        self.layers = [LayerCache(*self._memory[place], group) for group, place in groups.of_layer]

    @property
    def num_bytes(self) -> int:
        """Of all keys and values."""
        return sum(k.nbytes + v.nbytes for k, v in self._memory)


def kv_bytes_per_token(*, n_layers: int, n_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """Bytes of keys and values that one token takes in all layers."""
    return 2 * n_layers * n_kv_heads * head_dim * dtype.itemsize
