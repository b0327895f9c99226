"""Attention by xformers' memory-efficient kernels: CUDA, for steps that prefill."""

from typing import Any

import torch
from torch import Tensor

from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.batch import AttentionMetadata, SequenceSpan
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.kvcache.storage import LayerCache


class XformersBackend(AttentionBackend):
    """One call for all sequences of a step that computes prompts; steps of single queries go to SDPA."""

    name = "xformers"

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


def _make_bias(metadata: AttentionMetadata, window: int | None, device: torch.device) -> Any:
    """xformers' mask: block-diagonal, causal from the last key of each sequence back."""
    from xformers.ops.fmha.attn_bias import BlockDiagonalCausalFromBottomRightMask, BlockDiagonalMask

    query_lens = [span.query_len for span in metadata.spans]
    context_lens = [span.context_len for span in metadata.spans]
    if window is None:
        return BlockDiagonalCausalFromBottomRightMask.from_seqlens(query_lens, context_lens, device=device)
    whole = BlockDiagonalMask.from_seqlens(query_lens, context_lens, device=device)
    return whole.make_local_attention_from_bottomright(window)
