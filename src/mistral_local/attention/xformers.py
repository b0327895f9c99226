"""Attention by xformers' memory-efficient kernels on CUDA: packed prompts, and single queries over pages of the cache."""

from typing import Any

import torch
from torch import Tensor

from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.batch import AttentionMetadata, SequenceSpan
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.kvcache.storage import LayerCache

PAGE_SIZE = 64
"""Blocks that xformers reads by their tables have a multiple of so many tokens."""


class XformersBackend(AttentionBackend):
    """One call for all sequences of a step, of prompts or of single queries.

    Single queries go to SDPA, one call for each, where blocks are too small for xformers or a window cuts what they see: its
    kernel for pages has no windows.
    """

    name = "xformers"
    block_size = PAGE_SIZE

    def __init__(self) -> None:
        self._decode = SdpaBackend()

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
        if all(span.query_len == 1 for span in metadata.spans):
            if cache is not None and metadata.slot_mapping is not None and _are_pages(metadata, window):
                cache.write(k, v, metadata.slot_mapping)
                return _attend_pages(q, cache, metadata)
            return self._decode.attend(q, k, v, cache=cache, metadata=metadata, window=window)
        if cache is not None and metadata.slot_mapping is not None:
            cache.write(k, v, metadata.slot_mapping)
            k, v = _gather(cache.k, metadata.spans), _gather(cache.v, metadata.spans)
        bias = metadata.once(("xformers", window), lambda: _make_bias(metadata, window, q.device))
        return _attend_packed(q, k, v, bias)


def _gather(cached: Tensor, spans: tuple[SequenceSpan, ...]) -> Tensor:
    """[num_slots, K, D] -> [sum of context lengths, K, D]; one contiguous sequence is a view."""
    pieces = [cached[span.key_slots] for span in spans if span.key_slots is not None]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _attend_packed(q: Tensor, k: Tensor, v: Tensor, bias: Any) -> Tensor:
    from xformers.ops import memory_efficient_attention

    num_queries, n_heads, head_dim = q.shape
    n_kv_heads = k.shape[1]
    groups = n_heads // n_kv_heads
    q = q.view(1, num_queries, n_kv_heads, groups, head_dim)
    k, v = (t[None, :, :, None].expand(-1, -1, -1, groups, -1) for t in (k, v))  # [1, S, K, G, D], not copied
    mixed: Tensor = memory_efficient_attention(q, k, v, bias)
    return mixed.reshape(num_queries, n_heads, head_dim)


def _are_pages(metadata: AttentionMetadata, window: int | None) -> bool:
    """Whether xformers can read the keys of single queries where they lie."""
    if metadata.paged is None or metadata.paged.block_size % PAGE_SIZE:
        return False
    return window is None or all(span.context_len <= window for span in metadata.spans)


def _attend_pages(q: Tensor, cache: LayerCache, metadata: AttentionMetadata) -> Tensor:
    """[S, n_heads, head_dim], one query of each sequence."""
    from xformers.ops import fmha

    num_queries, n_heads, head_dim = q.shape
    n_kv_heads = cache.k.shape[1]
    groups = n_heads // n_kv_heads
    q = q.view(1, num_queries, n_kv_heads, groups, head_dim)
    k, v = (t[None, :, :, None].expand(-1, -1, -1, groups, -1) for t in (cache.k, cache.v))
    bias = metadata.once("xformers pages", lambda: _make_paged_bias(metadata, q.device))
    mixed: Tensor = fmha.memory_efficient_attention_forward(q, k, v, bias, op=fmha.triton_splitk.FwOp)
    return mixed.reshape(num_queries, n_heads, head_dim)


def _make_paged_bias(metadata: AttentionMetadata, device: torch.device) -> Any:
    """xformers' description of single queries over pages: each sees all keys of its sequence."""
    from xformers.ops.fmha.attn_bias import BlockDiagonalPaddedKeysMask, PagedBlockDiagonalPaddedKeysMask

    paged = metadata.paged
    assert paged is not None
    tables = paged.block_tables[paged.rows]
    context_lens = [span.context_len for span in metadata.spans]
    padding = tables.shape[1] * paged.block_size
    unpaged = BlockDiagonalPaddedKeysMask.from_seqlens([1] * len(context_lens), padding, context_lens, device=device)
    return unpaged.make_paged(tables, paged.block_size, PagedBlockDiagonalPaddedKeysMask)


def _make_bias(metadata: AttentionMetadata, window: int | None, device: torch.device) -> Any:
    """xformers' mask: block-diagonal, causal from the last key of each sequence back."""
    from xformers.ops.fmha.attn_bias import BlockDiagonalCausalFromBottomRightMask, BlockDiagonalMask

    query_lens = [span.query_len for span in metadata.spans]
    context_lens = [span.context_len for span in metadata.spans]
    if window is None:
        return BlockDiagonalCausalFromBottomRightMask.from_seqlens(query_lens, context_lens, device=device)
    whole = BlockDiagonalMask.from_seqlens(query_lens, context_lens, device=device)
    return whole.make_local_attention_from_bottomright(window)
