"""Attention backends against the formula, and kernels against their plain twins."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.attention.batch import AttentionMetadata, PagedTables, SequenceSpan, uncached_batch
from mistral_local.attention.sdpa import SdpaBackend, visible_keys
from mistral_local.attention.select import reasons_against_xformers
from mistral_local.attention.xformers import PAGE_SIZE, XformersBackend
from mistral_local.errors import ShapeError
from mistral_local.kernels.grouped_linear import grouped_linear, grouped_linear_by_loop, grouped_linear_by_mask
from mistral_local.kernels.rotate import rotate
from mistral_local.kvcache.storage import LayerCache
from mistral_local.model.moe import MoeFeedForward
from mistral_local.model.rope import rotations

HEADS, KV_HEADS, HEAD_DIM, BLOCK = 6, 2, 8, 4


def plain_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """[Q, H, D], [S, K, D] -> [Q, H, D], one query and one head at a time; the last query sees the last key."""
    out = torch.empty_like(q)
    for i in range(q.shape[0]):
        end = k.shape[0] - q.shape[0] + i + 1
        start = 0 if window is None else max(0, end - window)
        for head in range(q.shape[1]):
            kv_head = head // (q.shape[1] // k.shape[1])
            scores = k[start:end, kv_head] @ q[i, head] / q.shape[2] ** 0.5
            out[i, head] = torch.softmax(scores, dim=0) @ v[start:end, kv_head]
    return out


def scene(
    blocks: list[list[int]], lengths: list[tuple[int, int]]
) -> tuple[LayerCache, AttentionMetadata, list[Tensor]]:
    """Sequences with (context, queries) lengths on given blocks; keys before this step are in the cache already."""
    generator = torch.Generator().manual_seed(0)
    cache = LayerCache(*(torch.full((64, KV_HEADS, HEAD_DIM), float("nan")) for _ in range(2)))
    spans, slots, packed = [], [], []
    for ids, (context, queries) in zip(blocks, lengths, strict=True):
        q = torch.randn(queries, HEADS, HEAD_DIM, generator=generator)
        k, v = (torch.randn(context, KV_HEADS, HEAD_DIM, generator=generator) for _ in range(2))
        positions = torch.arange(context)
        own = torch.tensor(ids)[positions // BLOCK] * BLOCK + positions % BLOCK
        cache.write(k[: context - queries], v[: context - queries], own[: context - queries])
        is_contiguous = ids == list(range(ids[0], ids[0] + len(ids)))
        key_slots = slice(int(own[0]), int(own[0]) + context) if is_contiguous else own
        spans.append(SequenceSpan(sum(len(p[0]) for p in packed), queries, context, key_slots))
        slots.append(own[context - queries :])
        packed.append((q, k, v))
    return cache, AttentionMetadata(tuple(spans), torch.cat(slots)), packed  # type: ignore[return-value]


@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize(
    ("blocks", "lengths"),
    [
        ([[2, 3, 4]], [(11, 1)]),
        ([[2, 3, 4]], [(11, 11)]),
        ([[2, 9, 4]], [(11, 5)]),
        ([[0, 1], [5, 3], [7, 8, 9]], [(7, 1), (8, 1), (9, 1)]),
        ([[0, 1], [5, 3], [7, 8, 9]], [(7, 7), (8, 1), (9, 4)]),
    ],
)
def test_sdpa_equals_the_formula(blocks: list[list[int]], lengths: list[tuple[int, int]], window: int | None) -> None:
    cache, metadata, packed = scene(blocks, lengths)
    q = torch.cat([p[0] for p in packed])
    new_k, new_v = (torch.cat([p[i][-len(p[0]) :] for p in packed]) for i in (1, 2))
    out = SdpaBackend().attend(q, new_k, new_v, cache=cache, metadata=metadata, window=window)
    expected = torch.cat([plain_attention(*p, window) for p in packed])
    assert torch.allclose(out, expected, atol=1e-5)


class PlainOp:
    """Stands in for xformers' kernels, which a CPU does not have: attention under the mask that xformers builds."""

    def __init__(self) -> None:
        self.devices: set[torch.device] = set()

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, bias: Any) -> Tensor:
        """[1, Q, K, G, D], [1, S, K, G, D] -> [1, Q, K, G, D]."""
        self.devices |= {bias.q_seqinfo.seqstart.device, bias.k_seqinfo.seqstart.device}
        mask = bias.materialize((q.shape[1], k.shape[1]), dtype=torch.float32)
        q, k, v = (t[0].permute(1, 2, 0, 3) for t in (q, k, v))  # [K, G, tokens, D]
        mixed = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + mask, dim=-1) @ v
        return mixed.permute(2, 0, 1, 3)[None]


@pytest.mark.filterwarnings("default")  # warnings of xformers builds without CUDA are not ours to mend
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize(
    ("blocks", "lengths"),
    [
        ([[2, 3, 4]], [(11, 11)]),
        ([[2, 9, 4]], [(11, 5)]),
        ([[0, 1], [5, 3], [7, 8, 9]], [(7, 7), (8, 1), (9, 4)]),
    ],
)
def test_xformers_is_given_tensors_and_masks_that_make_the_formula(
    blocks: list[list[int]], lengths: list[tuple[int, int]], window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = pytest.importorskip("xformers.ops")
    op = PlainOp()
    monkeypatch.setattr(ops, "memory_efficient_attention", op)
    cache, metadata, packed = scene(blocks, lengths)
    q = torch.cat([p[0] for p in packed])
    new_k, new_v = (torch.cat([p[i][-len(p[0]) :] for p in packed]) for i in (1, 2))
    # xformers puts masks on the first CUDA device unless it is told where the tensors are.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    out = XformersBackend().attend(q, new_k, new_v, cache=cache, metadata=metadata, window=window)
    expected = torch.cat([plain_attention(*p, window) for p in packed])
    assert torch.allclose(out, expected, atol=1e-5)
    assert op.devices == {q.device}


def single_queries(lengths: list[int]) -> tuple[LayerCache, AttentionMetadata, list[Tensor]]:
    """Sequences of one query over shuffled pages; what nobody has written is NaN."""
    generator = torch.Generator().manual_seed(0)
    pages = [-(-length // PAGE_SIZE) for length in lengths]
    order = torch.randperm(sum(pages), generator=generator).split(pages)
    tables = torch.zeros(len(lengths) + 2, max(pages), dtype=torch.int32)
    rows = torch.arange(len(lengths)).flip(0) + 2
    cache = LayerCache(*(torch.full((sum(pages) * PAGE_SIZE, 2, 32), float("nan")) for _ in range(2)))
    spans, last_slots, packed = [], [], []
    for index, (length, blocks) in enumerate(zip(lengths, order, strict=True)):
        tables[rows[index], : len(blocks)] = blocks.int()
        slots = (blocks[:, None] * PAGE_SIZE + torch.arange(PAGE_SIZE)).flatten()[:length]
        q, k, v = (
            torch.randn(count, heads, 32, generator=generator) for count, heads in ((1, 6), (length, 2), (length, 2))
        )
        cache.write(k[:-1], v[:-1], slots[:-1])
        spans.append(SequenceSpan(index, 1, length, slots))
        last_slots.append(slots[-1:])
        packed.append((q, k, v))
    paged = PagedTables(tables, PAGE_SIZE, rows, torch.tensor(lengths), torch.arange(len(lengths) + 1))
    return cache, AttentionMetadata(tuple(spans), torch.cat(last_slots), paged), packed  # type: ignore[return-value]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="a GPU runs the kernels themselves: test_gpu.py")
@pytest.mark.filterwarnings("default")  # warnings of xformers builds without CUDA are not ours to mend
@pytest.mark.parametrize("window", [None, 200, 100])
def test_xformers_reads_the_pages_of_single_queries(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """xformers' own kernel, in Triton's interpreter; where a window cuts, SDPA."""
    fmha = pytest.importorskip("xformers.ops.fmha")
    pytest.importorskip("triton")
    calls: list[Tensor] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Any, *, op: Any) -> Tensor:
        calls.append(q)
        out: Tensor = op.apply(fmha.Inputs(q, k, v, attn_bias=bias), needs_gradient=False)[0]
        return out

    monkeypatch.setattr(fmha, "memory_efficient_attention_forward", attend)
    cache, metadata, packed = single_queries([130, 1, 64])
    q, new_k, new_v = (torch.cat([part[i][-1:] for part in packed]) for i in range(3))
    out = XformersBackend().attend(q, new_k, new_v, cache=cache, metadata=metadata, window=window)
    expected = torch.cat([plain_attention(*part, window) for part in packed])
    assert torch.allclose(out, expected, atol=1e-4)
    assert bool(calls) == (window != 100)


def test_a_mask_shows_the_last_keys_to_the_last_query() -> None:
    assert visible_keys(2, 4, 3, torch.device("cpu")).int().tolist() == [[1, 1, 1, 0], [0, 1, 1, 1]]


def test_xformers_says_why_it_does_not_serve_a_cpu() -> None:
    assert reasons_against_xformers(torch.device("cpu"), torch.bfloat16, 128) == [
        "xformers runs on CUDA only, not on cpu"
    ]


@pytest.mark.parametrize("seqlens", [[3], [5, 0], [2, 2, 1], []])
def test_lengths_that_do_not_add_up_are_refused(seqlens: list[int]) -> None:
    with pytest.raises(ShapeError, match=r"expected \[sum\(seqlens\)\]"):
        uncached_batch(torch.zeros(5 if seqlens != [2, 2, 1] else 6, dtype=torch.int64), seqlens)


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    q, k = torch.randn(2, 1, HEAD_DIM, generator=torch.Generator().manual_seed(1))[:, None].unbind(0)
    turns = rotations(torch.tensor([0, 3, 1000, 1003]), HEAD_DIM, 1e4)
    rotated_q, rotated_k = rotate(q.expand(4, 1, -1), turns), rotate(k.expand(4, 1, -1), turns)
    assert torch.allclose(rotated_q.norm(dim=-1), q.norm().expand(4, 1))
    near, far = (rotated_q[i, 0] @ rotated_k[j, 0] for i, j in ((0, 1), (2, 3)))
    assert abs(near - far) < 1e-3


GROUPS = [[3, 0, 2, 4], [0, 0, 9, 0], [1, 1, 1, 6]]


@pytest.mark.parametrize("sizes", GROUPS)
def test_grouped_linear_equals_one_product_per_group(sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(9, 5, generator=generator), torch.randn(4, 7, 5, generator=generator)
    parts = [rows @ weight[group].T for group, rows in enumerate(x.split(sizes))]
    group_sizes = torch.tensor(sizes)
    for twin in (grouped_linear, grouped_linear_by_loop, grouped_linear_by_mask):
        assert torch.allclose(twin(x, weight, group_sizes), torch.cat(parts), atol=1e-5)


def test_stacked_experts_share_memory_with_the_experts_own_weights() -> None:
    args = TransformerArgs(
        dim=16, n_layers=1, head_dim=8, hidden_dim=24, n_heads=2, n_kv_heads=1, norm_eps=1e-5, vocab_size=9,
        moe=MoeArgs(num_experts=3, num_experts_per_tok=2),
    )  # fmt: skip
    assert args.moe is not None
    layer = MoeFeedForward(args, args.moe).requires_grad_(False)
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    expected = layer(x)
    rows, sizes = x.repeat(2, 1), torch.tensor([5, 0, 9])
    assert torch.allclose(layer._grouped(rows, sizes), layer._one_by_one(rows, sizes), atol=1e-6)
    assert torch.allclose(layer(x), expected)
    with torch.no_grad():
        layer.experts[2].w1.weight.mul_(3)
    assert torch.allclose(layer._grouped(rows, sizes), layer._one_by_one(rows, sizes), atol=1e-6)
    assert layer._stacks("w1", "w3")[0][2].data_ptr() == layer.experts[2].w1.weight.data_ptr()
    layer.double()  # moves the weights: the stack is made anew
    rows = rows.double()
    assert torch.allclose(layer._grouped(rows, sizes), layer._one_by_one(rows, sizes), atol=1e-6)
