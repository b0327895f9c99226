"""Attention by Triton kernels that read block tables: CUDA, prompts and single tokens in one call."""

from torch import Tensor

from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.batch import AttentionMetadata
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.kvcache.storage import LayerCache

LONG_PROMPT = 512
"""Tokens from which on a prompt's attention is worth a call of its own."""


class TritonBackend(AttentionBackend):
    """One call for all sequences of a step.

    Long prompts of which nothing is cached yet go to torch's scaled_dot_product_attention, which has FlashAttention for
    them, and so does a forward without a cache.
    """

    name = "triton"
    reads_block_tables = True

    def __init__(self) -> None:
        self._unpaged = SdpaBackend()

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
        if cache is None or metadata.slot_mapping is None:
            return self._unpaged.rotate_and_attend(q, k, v, rotation, cache=cache, metadata=metadata, window=window)
        from mistral_local.kernels.triton.elementwise import rotate_and_store

        scales = {"k_scales": cache.k_scales, "v_scales": cache.v_scales}
        q = rotate_and_store(q, k, v, rotation, cache.k, cache.v, metadata.slot_mapping, **scales)
        if _are_long_prompts(cache, metadata, window):
            k = cache.k[metadata.slot_mapping]  # rotated
            return self._unpaged.attend(q, k, v, cache=None, metadata=metadata, window=window)
        return _attend(q, cache, metadata, window)

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
        if cache is None or metadata.slot_mapping is None:
            return self._unpaged.attend(q, k, v, cache=cache, metadata=metadata, window=window)
        cache.write(k, v, metadata.slot_mapping)
        return _attend(q.contiguous(), cache, metadata, window)


def _are_long_prompts(cache: LayerCache, metadata: AttentionMetadata, window: int | None) -> bool:
    """Whether every sequence is a long prompt from its beginning, which a window does not cut, with keys stored as they are."""
    return cache.k_scales is None and all(
        span.query_len == span.context_len >= LONG_PROMPT and (window is None or span.context_len <= window)
        for span in metadata.spans
    )


def _attend(q: Tensor, cache: LayerCache, metadata: AttentionMetadata, window: int | None) -> Tensor:
    from mistral_local.kernels.triton.paged_attention import paged_attention

    paged = metadata.paged
    assert paged is not None
    return paged_attention(
        q,
        cache.k,
        cache.v,
        block_tables=paged.block_tables,
        block_size=paged.block_size,
        rows=paged.rows,
        context_lens=paged.context_lens,
        query_starts=paged.query_starts,
        max_query_len=metadata.once("longest", lambda: max(span.query_len for span in metadata.spans)),
        window=window,
        k_scales=cache.k_scales,
        v_scales=cache.v_scales,
    )
