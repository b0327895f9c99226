"""Attention over a paged KV cache, for prompts and single tokens alike (arXiv:2205.14135, 2309.06180).

A program takes some queries of one sequence with all heads that share a key/value head, so that keys are read once for the
whole group, and goes over its keys with a running maximum.  When there are fewer programs than the device has processors,
the keys of a sequence are divided among several, and a second kernel merges what they found.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.triton import num_processors
from mistral_local.kernels.triton.e4m3 import WIDENED, widen_e4m3

LOG2_E = tl.constexpr(1.4426950408889634)

LEAST_ROWS = 16
"""Rows of the smallest product of matrices."""

BLOCK_KEYS = 64
PREFILL_ROWS = 64
PROGRAMS_PER_PROCESSOR = 2
MAX_SPLITS = 32


# Where these begin depends on how many tokens a step has; kernels are not compiled anew for that.
@triton.jit(do_not_specialize_on_alignment=["rows", "context_lens", "query_starts"])
def _attend(
    q, k_cache, v_cache, k_scales, v_scales, out, parts, part_stats,
    block_tables, rows, context_lens, query_starts, table_stride, scale,
    FP8: tl.constexpr, WINDOW: tl.constexpr, GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, NUM_SPLITS: tl.constexpr,
):  # fmt: skip
    sequence, kv_head = tl.program_id(0), tl.program_id(1)
    chunk, split = tl.program_id(2) // NUM_SPLITS, tl.program_id(2) % NUM_SPLITS
    QUERIES: tl.constexpr = BLOCK_M // GROUP
    heads: tl.constexpr = KV_HEADS * GROUP
    first = tl.load(query_starts + sequence)
    query_len = tl.load(query_starts + sequence + 1) - first
    if chunk * QUERIES < query_len:
        context_len = tl.load(context_lens + sequence)
        table = block_tables + tl.load(rows + sequence) * table_stride
        m = tl.arange(0, BLOCK_M)
        d = tl.arange(0, HEAD_DIM)
        query = chunk * QUERIES + m // GROUP
        is_row = (m < QUERIES * GROUP) & (query < query_len)
        position = context_len - query_len + query
        row = (first + query) * heads + kv_head * GROUP + m % GROUP  # of q and out, as [T * heads, HEAD_DIM]
        queries = tl.load(q + row[:, None] * HEAD_DIM + d[None, :], mask=is_row[:, None], other=0.0)

        last_position = tl.minimum(context_len, context_len - query_len + (chunk + 1) * QUERIES)
        first_seen = 0
        if WINDOW > 0:
            first_seen = tl.maximum(context_len - query_len + chunk * QUERIES - WINDOW + 1, 0)
        low = first_seen // BLOCK_N * BLOCK_N
        per_split = tl.cdiv(tl.cdiv(last_position - low, BLOCK_N), NUM_SPLITS) * BLOCK_N
        begin = low + split * per_split
        end = tl.minimum(begin + per_split, last_position)

        largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        mixed = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)
        for start in range(begin, end, BLOCK_N):
            key = start + tl.arange(0, BLOCK_N)
            # What the window has left may be anybody's, or was never written: 0 times NaN would be NaN.
            is_key = (key >= first_seen) & (key < end)
            block = tl.load(table + key // BLOCK_SIZE, mask=is_key, other=0).to(tl.int64)
            slot = (block * BLOCK_SIZE + key % BLOCK_SIZE) * KV_HEADS + kv_head
            at = slot[:, None] * HEAD_DIM + d[None, :]
            keys = _load_heads(k_cache + at, is_key, queries.dtype, FP8)
            scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * (scale * LOG2_E)
            if FP8:
                scores *= tl.load(k_scales + slot, mask=is_key, other=0.0)[None, :] * WIDENED
            is_seen = is_key[None, :] & (key[None, :] <= position[:, None])
            if WINDOW > 0:
                is_seen = is_seen & (key[None, :] > position[:, None] - WINDOW)
            scores = tl.where(is_seen, scores, float("-inf"))
            higher = tl.maximum(largest, tl.max(scores, 1))
            # A row that has seen nothing yet keeps zeros: exp2(-inf - 0) = 0.
            base = tl.where(higher == float("-inf"), 0.0, higher)
            weights = tl.exp2(scores - base[:, None])
            shrink = tl.exp2(largest - base)
            total = total * shrink + tl.sum(weights, 1)
            values = _load_heads(v_cache + at, is_key, queries.dtype, FP8)
            if FP8:
                weights *= tl.load(v_scales + slot, mask=is_key, other=0.0)[None, :] * WIDENED
            mixed = mixed * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
            largest = higher

        if NUM_SPLITS == 1:
            result = mixed / tl.where(total > 0, total, 1.0)[:, None]
            tl.store(out + row[:, None] * HEAD_DIM + d[None, :], result.to(out.dtype.element_ty), mask=is_row[:, None])
        else:
            part = row * NUM_SPLITS + split
            tl.store(parts + part[:, None] * HEAD_DIM + d[None, :], mixed, mask=is_row[:, None])
            tl.store(part_stats + part * 2, largest, mask=is_row)
            tl.store(part_stats + part * 2 + 1, total, mask=is_row)


@triton.jit
def _load_heads(at, is_key, dtype: tl.constexpr, FP8: tl.constexpr):
    """[BLOCK_N, HEAD_DIM] keys or values as stored, which in fp8 are 1 / WIDENED of the numbers before their scale."""
    if FP8:
        heads = widen_e4m3(tl.load(at, mask=is_key[:, None], other=0)).to(dtype)
    else:
        heads = tl.load(at, mask=is_key[:, None], other=0.0)
    return heads


@triton.jit
def _merge(parts, part_stats, out, HEAD_DIM: tl.constexpr, NUM_SPLITS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, NUM_SPLITS)
    d = tl.arange(0, HEAD_DIM)
    part = row * NUM_SPLITS + s
    largest, total = tl.load(part_stats + part * 2), tl.load(part_stats + part * 2 + 1)
    highest = tl.max(largest, 0)
    weight = tl.exp2(largest - tl.where(highest == float("-inf"), 0.0, highest))
    mixed = tl.sum(tl.load(parts + part[:, None] * HEAD_DIM + d[None, :]) * weight[:, None], 0)
    total = tl.sum(total * weight, 0)
    tl.store(out + row * HEAD_DIM + d, (mixed / tl.where(total > 0, total, 1.0)).to(out.dtype.element_ty))


def paged_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    *,
    block_tables: Tensor,
    block_size: int,
    rows: Tensor,
    context_lens: Tensor,
    query_starts: Tensor,
    max_query_len: int,
    window: int | None,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
) -> Tensor:
    """Causal grouped-query attention of packed queries over cached keys, which hold those of the queries already.

    Args:
        q: [T, n_heads, head_dim], contiguous; head_dim a power of two from 16 to 256.
        k_cache, v_cache: [num_slots, n_kv_heads, head_dim], contiguous; of the dtype of q, or in fp8 with scales.
        block_tables, block_size, rows, context_lens, query_starts: as in PagedTables; a context of 0 gives zeros.
        max_query_len: most queries of a sequence.
        window: a query sees this many keys, itself included; None means all before it.
        k_scales, v_scales: [num_slots, n_kv_heads] fp32; they are applied to scores and to weights, so that nothing is copied.

    Returns:
        [T, n_heads, head_dim].
    """
    num_tokens, heads, head_dim = q.shape
    kv_heads = k_cache.shape[1]
    group, num_seqs = heads // kv_heads, rows.shape[0]
    block_m = max(LEAST_ROWS, triton.next_power_of_2(group))
    if max_query_len * group > block_m:
        block_m = max(block_m, PREFILL_ROWS)
    num_chunks = -(-max_query_len // (block_m // group))
    num_splits = splits(num_seqs * kv_heads * num_chunks, q.device)
    out = torch.empty_like(q)
    parts, part_stats = out, out  # not used by a single split
    if num_splits > 1:
        parts = torch.empty(num_tokens * heads * num_splits, head_dim, dtype=torch.float32, device=q.device)
        part_stats = torch.empty(num_tokens * heads * num_splits, 2, dtype=torch.float32, device=q.device)
    is_fp8 = k_scales is not None
    if is_fp8:
        k_cache, v_cache = k_cache.view(torch.uint8), v_cache.view(torch.uint8)
    constants: dict[str, Any] = {
        "FP8": is_fp8,
        "WINDOW": window or 0,
        "GROUP": group,
        "KV_HEADS": kv_heads,
        "HEAD_DIM": head_dim,
        "BLOCK_SIZE": block_size,
        "BLOCK_M": block_m,
        "BLOCK_N": BLOCK_KEYS,
        "NUM_SPLITS": num_splits,
    }
    _attend[num_seqs, kv_heads, num_chunks * num_splits](
        q, k_cache, v_cache, k_scales if is_fp8 else q, v_scales if is_fp8 else q, out, parts, part_stats,
        block_tables, rows, context_lens, query_starts, block_tables.stride(0), head_dim**-0.5,
        **constants,
    )  # fmt: skip
    if num_splits > 1:
        _merge[(num_tokens * heads,)](parts, part_stats, out, HEAD_DIM=head_dim, NUM_SPLITS=num_splits)
    return out


def splits(num_programs: int, device: torch.device) -> int:
    """Into how many the keys of a sequence are divided, a power of two, so that every processor has work."""
    wanted = PROGRAMS_PER_PROCESSOR * num_processors(device)
    num_splits = 1
    while num_splits < MAX_SPLITS and num_programs * num_splits * 2 <= wanted:
        num_splits *= 2
    return num_splits
