"""Attention by compiled kernels: bfloat16 on a CPU, for steps of up to a thousand tokens."""

import ctypes

from torch import Tensor

from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.batch import AttentionMetadata
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.kernels import native
from mistral_local.kvcache.storage import LayerCache

Queries = tuple[ctypes.Array[ctypes.c_int64], int]


class NativeBackend(AttentionBackend):
    """Every query of a step by itself, straight from the blocks; steps of many tokens go to SDPA."""

    name = "native"

    def __init__(self) -> None:
        self._many_tokens = SdpaBackend()

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
        kernels = native.serving(q, max_rows=native.MAX_ROWS_ATTENTION)
        if kernels is None or len(q) > kernels.max_rows_attention or cache is None or metadata.slot_mapping is None:
            return self._many_tokens.attend(q, k, v, cache=cache, metadata=metadata, window=window)
        cache.write(k, v, metadata.slot_mapping)
        queries = metadata.once(("native", window), lambda: _list_queries(metadata, window))
        return kernels.attend(q.contiguous(), cache.k, cache.v, *queries)


def _list_queries(metadata: AttentionMetadata, window: int | None) -> Queries:
    """What each query of a step sees, as NativeKernels.attend takes it."""
    numbers: list[int] = []
    for span in metadata.spans:
        slots = span.key_slots
        first_slot, address = (0, slots.data_ptr()) if isinstance(slots, Tensor) else (slots.start if slots else 0, 0)
        for row in range(span.query_start, span.query_end):
            end = span.context_len - (span.query_end - row) + 1
            numbers += (row, 0 if window is None else max(0, end - window), end, first_slot, address)
    return (ctypes.c_int64 * len(numbers))(*numbers), len(numbers) // 5
