"""Attention by torch's scaled_dot_product_attention: any device, and the reference for the other backends.

Legend: H query heads, K key/value heads, G = H / K queries per key/value head, Q queries, S keys, D head_dim.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.batch import AttentionMetadata, SequenceSpan
from mistral_local.kvcache.storage import LayerCache


class SdpaBackend(AttentionBackend):
    """One call per sequence; contiguous keys are read through a view of the cache, without a copy."""

    name = "sdpa"

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
        if cache is not None and metadata.slot_mapping is not None:
            cache.write(k, v, metadata.slot_mapping)
        if len(metadata.spans) == 1:
            return self._attend_one(q, k, v, cache, metadata.spans[0], window)
        out = torch.empty_like(q)
        for span in metadata.spans:
            rows = slice(span.query_start, span.query_end)
            out[rows] = self._attend_one(q[rows], k[rows], v[rows], cache, span, window)
        return out

    def _attend_one(
        self, q: Tensor, k: Tensor, v: Tensor, cache: LayerCache | None, span: SequenceSpan, window: int | None
    ) -> Tensor:
        """[Q, H, D] -> [Q, H, D] for one sequence; k and v are its new keys and values."""
        first_key = 0 if window is None else max(0, span.context_len - span.query_len - window + 1)
        if cache is not None and span.key_slots is not None:
            slots = _from(span.key_slots, first_key)
            k, v = cache.read(slots, q.dtype)  # [S, K, D]
        else:
            k, v = k[first_key:], v[first_key:]
        if span.query_len == 1:
            return _attend_single_query(q, k, v)
        return _attend_chunk(q, k, v, window)


def _from(slots: slice | Tensor, first: int) -> slice | Tensor:
    if isinstance(slots, slice):
        return slice(slots.start + first, slots.stop)
    return slots[first:]


def _attend_single_query(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[1, H, D]: all G heads of a key/value head are rows of one product; every key given is visible, so no mask."""
    _, n_heads, head_dim = q.shape
    n_kv_heads = k.shape[1]
    grouped = q.view(1, n_kv_heads, n_heads // n_kv_heads, head_dim)
    mixed = scaled_dot_product_attention(grouped, k.transpose(0, 1)[None], v.transpose(0, 1)[None])  # [1, K, G, D]
    return mixed.reshape(1, n_heads, head_dim)


def _attend_chunk(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """[Q, H, D]: the last query sees the last key; with as many keys as queries the mask is the plain triangle."""
    num_queries, num_keys = q.shape[0], k.shape[0]
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))  # [1, heads, tokens, D]
    if num_queries == num_keys and (window is None or num_keys <= window):
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    else:
        mask = visible_keys(num_queries, num_keys, window, q.device)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return mixed[0].transpose(0, 1)


def visible_keys(num_queries: int, num_keys: int, window: int | None, device: torch.device) -> Tensor:
    """[Q, S] bool: which of the last `num_keys` keys each of the last `num_queries` queries sees.

    Query i stands at key i + S - Q.  With Q = 2, S = 4 and window 3:  1 1 1 0
                                                                       0 1 1 1
    """
    query = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None]
    key = torch.arange(num_keys, device=device)[None, :]
    mask = key <= query
    return mask if window is None else mask & (key > query - window)
