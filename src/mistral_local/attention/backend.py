"""The one interface to attention."""

from abc import ABC, abstractmethod

from torch import Tensor

from mistral_local.attention.batch import AttentionMetadata
from mistral_local.kernels.rotate import rotate
from mistral_local.kvcache.storage import LayerCache


class AttentionBackend(ABC):
    """Causal grouped-query attention over packed sequences, with or without a KV cache."""

    name: str

    reads_block_tables = False
    """Whether attend() looks up keys by metadata.paged; then nobody needs to tell it their slots."""

    block_size = 16
    """Tokens of a block that it reads best."""

    def rotate_and_attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rotation: Tensor,
        *,
        cache: LayerCache | None,
        metadata: AttentionMetadata,
        window: int | None,
    ) -> Tensor:
        """attend() for q and k that are not rotated yet, and may be overwritten.

        Args:
            rotation: [T, 1, head_dim / 2] complex64, as kernels.rotate.rotate takes it.
        """
        return self.attend(rotate(q, rotation), rotate(k, rotation), v, cache=cache, metadata=metadata, window=window)

    @abstractmethod
    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        cache: LayerCache | None,
        metadata: AttentionMetadata,
        window: int | None,
    ) -> Tensor:
        """Mix the values that each query sees; new keys and values are stored in `cache` first.

        Args:
            q: [T, n_heads, head_dim], rotated.
            k, v: [T, n_kv_heads, head_dim], same dtype and device; k rotated.
            cache: keys and values of earlier steps, written in place; None when every sequence is whole.
            metadata: the sequences of the step.
            window: a query sees this many keys, itself included; None means all before it.

        Returns:
            [T, n_heads, head_dim]: softmax(q k^T / sqrt(head_dim)) v, query head h reading key/value head
            h // (n_heads / n_kv_heads).
        """
