"""The part of the check that looks at rotation, the cache and attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mistral_local.kernels.quantized import QuantizedWeight, dequantize, quantize
from mistral_local.kernels.rotate import rotate_by_torch
from mistral_local.kernels.triton.check_case import Case, Draw, Size
from mistral_local.kernels.triton.elementwise import rotate_and_store
from mistral_local.kernels.triton.paged_attention import paged_attention

BLOCK_SIZE = 16


def attention_groups(draw: Draw, size: Size) -> list[Iterator[Case]]:
    """One query, whose keys many programs divide, several, chunks and padding, with and without a window, plain and in fp8."""
    context = size.context
    single = [(context, 1), (context // 3, 1), (0, 1), (BLOCK_SIZE, 1)]
    return [
        _attention(draw, size, Scene.of(lengths, draw.device), is_fp8=is_fp8)
        for lengths in (single[:1], single, [*single, (context // 2, min(37, context // 2)), (40, 40)])
        for is_fp8 in (False, True)
    ]


@dataclass(frozen=True, slots=True)
class Scene:
    """Sequences of (context, queries) on shuffled blocks, as attention.batch.PagedTables has them."""

    lengths: list[tuple[int, int]]
    block_tables: Tensor
    slots: list[Tensor]
    query_starts: list[int]

    @classmethod
    def of(cls, lengths: list[tuple[int, int]], device: torch.device) -> Scene:
        """A context of 0 is padding."""
        num_blocks = [-(-context // BLOCK_SIZE) for context, _ in lengths]
        order = torch.randperm(sum(num_blocks), generator=torch.Generator().manual_seed(1)).split(num_blocks)
        tables = torch.zeros(len(lengths), max(num_blocks), dtype=torch.int32)
        slots = []
        for row, (blocks, (context, _)) in enumerate(zip(order, lengths, strict=True)):
            tables[row, : len(blocks)] = blocks.int()
            slots.append((blocks[:, None] * BLOCK_SIZE + torch.arange(BLOCK_SIZE)).flatten()[:context].to(device))
        return cls(lengths, tables.to(device), slots, [0, *accumulate(queries for _, queries in lengths)])

    @property
    def num_slots(self) -> int:
        return int(sum(-(-context // BLOCK_SIZE) for context, _ in self.lengths)) * BLOCK_SIZE


class Cache:
    """Keys and values in the dtype of the model, or in fp8 with a scale for each head."""

    def __init__(self, draw: Draw, size: Size, num_slots: int, *, is_fp8: bool) -> None:
        shape = (num_slots, size.kv_heads, size.head_dim)
        dtype = torch.float8_e4m3fn if is_fp8 else draw.dtype
        self.k, self.v = (torch.zeros(shape, dtype=torch.float32, device=draw.device).to(dtype) for _ in range(2))
        self.scales = {name: torch.zeros(shape[:2], device=draw.device) for name in ("k_scales", "v_scales") if is_fp8}

    def read(self) -> tuple[Tensor, Tensor]:
        """[num_slots, n_kv_heads, head_dim] fp32 each."""
        if not self.scales:
            return self.k.float(), self.v.float()
        k, v = self.k.float() * self.scales["k_scales"][..., None], self.v.float() * self.scales["v_scales"][..., None]
        return k, v


def _attention(draw: Draw, size: Size, scene: Scene, *, is_fp8: bool) -> Iterator[Case]:
    kind = f"{'fp8' if is_fp8 else 'plain'} cache, {scene.query_starts[-1]} queries"
    cache, slots = Cache(draw, size, scene.num_slots, is_fp8=is_fp8), torch.cat(scene.slots)
    heads = (size.heads, size.kv_heads, size.kv_heads)
    q, k, v = draw(len(slots), sum(heads), size.head_dim).split(heads, dim=1)  # as one product gives them
    angles = torch.rand(len(slots), 1, size.head_dim // 2, device=draw.device) * 6
    rotation = torch.polar(torch.ones_like(angles), angles)
    rotated = rotate_and_store(q, k, v, rotation, cache.k, cache.v, slots, **cache.scales)
    yield Case(f"rotation, {kind}", rotated, rotate_by_torch(q, rotation))
    keys, values = cache.read()
    wanted = rotate_by_torch(k, rotation), v
    for name, found, expected in zip(("keys", "values"), (keys, values), wanted, strict=True):
        yield Case(f"{name}, {kind}", found[slots].to(draw.dtype), _in_fp8(expected) if is_fp8 else expected)
    q = draw(scene.query_starts[-1], size.heads, size.head_dim)
    for window in (None, max(2, size.context // 4)):
        expected = _by_torch(q.float(), keys, values, scene, window)
        yield Case(f"attention, {kind}, window {window}", _by_triton(q, cache, scene, window), expected)


def _in_fp8(numbers: Tensor) -> Tensor:
    rounded: QuantizedWeight = quantize(numbers.reshape(-1, numbers.shape[-1]), "fp8")
    return dequantize(rounded, torch.float32).view(numbers.shape)


def _by_triton(q: Tensor, cache: Cache, scene: Scene, window: int | None) -> Tensor:
    device = q.device
    return paged_attention(
        q,
        cache.k,
        cache.v,
        block_tables=scene.block_tables,
        block_size=BLOCK_SIZE,
        rows=torch.arange(len(scene.lengths), device=device),
        context_lens=torch.tensor([context for context, _ in scene.lengths], device=device),
        query_starts=torch.tensor(scene.query_starts, device=device),
        max_query_len=max(queries for _, queries in scene.lengths),
        window=window,
        **cache.scales,
    )


def _by_torch(q: Tensor, keys: Tensor, values: Tensor, scene: Scene, window: int | None) -> Tensor:
    """[T, n_heads, head_dim] fp32; padding gets zeros."""
    out = torch.zeros_like(q)
    for (context, queries), slots, start in zip(scene.lengths, scene.slots, scene.query_starts, strict=False):
        if not context:
            continue
        position = torch.arange(context - queries, context, device=q.device)[:, None]
        key = torch.arange(context, device=q.device)[None]
        is_seen = (key <= position) & (key > position - (window or context + 1))
        its_q, k, v = (t.transpose(0, 1)[None] for t in (q[start : start + queries], keys[slots], values[slots]))
        mixed = scaled_dot_product_attention(its_q, k, v, attn_mask=is_seen, enable_gqa=True)
        out[start : start + queries] = mixed[0].transpose(0, 1)
    return out
