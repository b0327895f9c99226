"""The tensors behind the blocks of the KV cache."""

from copy import copy

import torch
from torch import Tensor

from mistral_local.config import KVDtype
from mistral_local.kernels.quantized import quantize
from mistral_local.kvcache.groups import KVGroups

FP8 = torch.float8_e4m3fn

SCALE_BYTES = 4
"""Of each token and key/value head, for keys and for values, in fp8."""


class LayerCache:
    """Keys and values of one layer.

    Attributes:
        k, v: [num_slots, n_kv_heads, head_dim]; slot = block id * block_size + offset in the block.
            Memory is not initialised: read only slots that were written.
        group: which block tables say where its keys lie.
        k_scales, v_scales: [num_slots, n_kv_heads] fp32, what the numbers of a head are multiplied by if k and v are in fp8;
            None otherwise.
    """

    __slots__ = ("group", "k", "k_scales", "v", "v_scales")

    def __init__(self, k: Tensor, v: Tensor, group: int = 0) -> None:
        self.k, self.v, self.group = k, v, group
        self.k_scales, self.v_scales = _scales_of(k), _scales_of(v)

    def seen_by(self, group: int) -> "LayerCache":
        """The same memory for a layer of another group."""
        other = copy(self)
        other.group = group
        return other

    def write(self, k: Tensor, v: Tensor, slot_mapping: Tensor) -> None:
        """Store new keys and values in place; in fp8 each head is rounded by itself, its largest number to 448.

        Args:
            k, v: [T, n_kv_heads, head_dim], same device as the cache, and same dtype unless that is fp8.
            slot_mapping: [T] int64 flat slots, all different.

        Layout after PagedAttention (arXiv:2309.06180, section 4).
        """
        for new, stored, scales in ((k, self.k, self.k_scales), (v, self.v, self.v_scales)):
            if scales is None:
                stored.index_copy_(0, slot_mapping, new)
                continue
            rounded = quantize(new.reshape(-1, new.shape[-1]), "fp8")
            _bytes(stored).index_copy_(0, slot_mapping, _bytes(rounded.data).view(new.shape))
            scales.index_copy_(0, slot_mapping, rounded.scales.view(new.shape[:-1]))

    def read(self, slots: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of some slots, [S, n_kv_heads, head_dim] each; a view of a slice, unless they are in fp8.

        Args:
            dtype: what fp8 is widened to.
        """
        k, v = _widened(self.k, self.k_scales, slots, dtype), _widened(self.v, self.v_scales, slots, dtype)
        return k, v

    @property
    def num_bytes(self) -> int:
        """Of keys, values and scales."""
        tensors = (self.k, self.v, self.k_scales, self.v_scales)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class KVCache:
    """The KV cache of a model: one LayerCache per layer.

    Layers of different groups that stand at the same place in their groups share memory: a block belongs to one group.

    Args:
        dtype: what keys and values are stored in; FP8 has scales beside them.
        has_scratch: whether there is a block behind the last one that nobody is given and nobody reads: what padding writes
            goes to `scratch_slot` in it.
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
        has_scratch: bool = False,
    ) -> None:
        self.groups, self.num_blocks, self.block_size, self.device = groups, num_blocks, block_size, device
        self.has_scratch, self.scratch_slot = has_scratch, num_blocks * block_size
        shape = ((num_blocks + has_scratch) * block_size, n_kv_heads, head_dim)
        self.dtype = dtype
        self._memory = [
            LayerCache(torch.empty(shape, dtype=dtype, device=device), torch.empty(shape, dtype=dtype, device=device))
            for _ in range(groups.layers_per_group)
        ]
        self.layers = [self._memory[place].seen_by(group) for group, place in groups.of_layer]

    @property
    def num_bytes(self) -> int:
        """Of all keys and values."""
        return sum(memory.num_bytes for memory in self._memory)


def storage_dtype(kv_dtype: KVDtype, model_dtype: torch.dtype) -> torch.dtype:
    """What keys and values of a model are stored in."""
    return FP8 if kv_dtype == "fp8" else model_dtype


def kv_bytes_per_token(*, n_layers: int, n_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """Bytes of keys and values, as stored, that one token takes in all layers."""
    return 2 * n_layers * n_kv_heads * (head_dim * dtype.itemsize + (SCALE_BYTES if dtype == FP8 else 0))


def _scales_of(stored: Tensor) -> Tensor | None:
    if stored.dtype != FP8:
        return None
    return torch.empty(stored.shape[:-1], dtype=torch.float32, device=stored.device)


def _widened(stored: Tensor, scales: Tensor | None, slots: slice | Tensor, dtype: torch.dtype) -> Tensor:
    if scales is None:
        return stored[slots]
    return (_bytes(stored)[slots].view(FP8).float() * scales[slots][..., None]).to(dtype)


def _bytes(stored: Tensor) -> Tensor:
    """The same memory, of a dtype that every operation takes."""
    return stored.view(torch.uint8)
