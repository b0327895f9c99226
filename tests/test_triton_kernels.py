"""Triton's kernels in its interpreter (conftest.py turns it on where there is no GPU), against their plain twins.

bfloat16 is not among the dtypes of products: the interpreter multiplies its bits as integers.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from torch import Tensor

from mistral_local.attention import triton as triton_attention
from mistral_local.attention.batch import AttentionMetadata, PagedTables, SequenceSpan
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.attention.select import select_backend
from mistral_local.attention.triton import TritonBackend
from mistral_local.config import KV_DTYPES, EngineConfig, KVDtype
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.kernels.rms_norm import rms_norm_by_torch
from mistral_local.kernels.rotate import rotate_by_torch
from mistral_local.kernels.swiglu import swiglu_by_torch
from mistral_local.kernels.triton import SWITCH, reasons_against_triton
from mistral_local.kvcache.storage import FP8, LayerCache
from mistral_local.model.rope import rotations
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU runs the kernels themselves: test_gpu.py", allow_module_level=True)

pytest.importorskip("triton")

import triton
import triton.language as tl

from mistral_local.kernels.triton import elementwise, paged_attention
from mistral_local.kernels.triton.e4m3 import narrow_to_e4m3

BLOCK = 4
DTYPES = [torch.float32, torch.float16]


@triton.jit
def _narrow(numbers, codes, num, BLOCK: tl.constexpr):  # noqa: N803
    i = tl.arange(0, BLOCK)
    tl.store(codes + i, narrow_to_e4m3(tl.load(numbers + i, mask=i < num, other=0.0)), mask=i < num)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def scene(lengths: list[tuple[int, int]], *, kv_heads: int, head_dim: int, dtype: torch.dtype):
    """Sequences of (context, queries) on shuffled blocks, each in a row of its own."""
    num_blocks = [-(-context // BLOCK) for context, _ in lengths]
    order = torch.randperm(sum(num_blocks), generator=torch.Generator().manual_seed(1)).tolist()
    tables = torch.zeros(len(lengths) + 2, max(num_blocks) + 1, dtype=torch.int32)
    rows = torch.arange(len(lengths)).flip(0) + 1
    spans, start = [], 0
    for index, (context, queries) in enumerate(lengths):
        blocks = torch.tensor([order.pop() for _ in range(num_blocks[index])])
        tables[rows[index], : len(blocks)] = blocks
        slots = (blocks[:, None] * BLOCK + torch.arange(BLOCK)).flatten()[:context]
        spans.append(SequenceSpan(start, queries, context, slots))
        start += queries
    cache = LayerCache(*(normal(sum(num_blocks) * BLOCK, kv_heads, head_dim, seed=s, dtype=dtype) for s in (2, 3)))
    paged = PagedTables(
        tables,
        BLOCK,
        rows,
        torch.tensor([context for context, _ in lengths]),
        torch.tensor([0, *(span.query_end for span in spans)]),
    )
    return cache, AttentionMetadata(tuple(spans), None, paged), start


@pytest.mark.long
@pytest.mark.parametrize(
    ("dtype", "num_splits", "heads"),
    [
        (torch.float32, 1, (2, 2)),
        (torch.float32, 1, (6, 1)),
        (torch.float32, 4, (8, 2)),
        (torch.float16, 4, (6, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("window", [None, 1, 70])
@pytest.mark.parametrize(
    "lengths",
    [[(130, 1), (1, 1), (64, 1)], [(33, 33)], [(100, 20), (90, 1), (20, 3)]],
    ids=["decode", "prompt", "mixed"],
)
def test_paged_attention_is_that_of_sdpa(
    lengths: list[tuple[int, int]],
    heads: tuple[int, int],
    window: int | None,
    num_splits: int,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paged_attention, "splits", lambda *_: num_splits)
    cache, metadata, num_tokens = scene(lengths, kv_heads=heads[1], head_dim=16, dtype=dtype)
    q = normal(num_tokens, heads[0], 16, seed=4, dtype=dtype)
    nothing = torch.empty(num_tokens, heads[1], 16, dtype=dtype)
    expected = SdpaBackend().attend(q, nothing, nothing, cache=cache, metadata=metadata, window=window)
    assert metadata.paged is not None
    paged = metadata.paged
    found = paged_attention.paged_attention(
        q,
        cache.k,
        cache.v,
        block_tables=paged.block_tables,
        block_size=paged.block_size,
        rows=paged.rows,
        context_lens=paged.context_lens,
        query_starts=paged.query_starts,
        max_query_len=max(queries for _, queries in lengths),
        window=window,
    )
    tolerance = 1e-5 if dtype == torch.float32 else 5e-3
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("window", "num_splits"), [(None, 1), (70, 4)])
def test_attention_over_fp8_is_that_of_sdpa(
    window: int | None, num_splits: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paged_attention, "splits", lambda *_: num_splits)
    plain, metadata, num_tokens = scene([(100, 20), (90, 1), (20, 3)], kv_heads=2, head_dim=16, dtype=dtype)
    cache = LayerCache(*(torch.empty(plain.k.shape, dtype=FP8) for _ in "kv"))
    sizes = normal(len(plain.k), seed=7).exp()[:, None, None].to(dtype)  # every scale is another
    cache.write(plain.k * sizes, plain.v * sizes, torch.arange(len(plain.k)))
    q = normal(num_tokens, 6, 16, seed=4, dtype=dtype)
    nothing = torch.empty(num_tokens, 2, 16)
    expected = SdpaBackend().attend(q.float(), nothing, nothing, cache=cache, metadata=metadata, window=window)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-3
    nothing_new = replace(metadata, slot_mapping=torch.empty(0, dtype=torch.int64))
    found = TritonBackend().attend(q, nothing[:0], nothing[:0], cache=cache, metadata=nothing_new, window=window)
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


def test_every_number_becomes_the_nearest_of_fp8() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(FP8).float()
    codes = codes[codes.isfinite()]
    between = (codes[:, None] + codes[None, :]).flatten() / 2  # among them every tie
    numbers = torch.cat([codes, between, between * (1 + 1e-6), between * (1 - 1e-6), normal(5000) * 100])
    numbers = torch.cat([numbers, normal(5000, seed=1) / 100, torch.tensor([1e-30, -1e-30, 1e-45])]).clamp(-448, 448)
    found = torch.empty(len(numbers), dtype=torch.uint8)
    _narrow[(1,)](numbers, found, len(numbers), BLOCK=triton.next_power_of_2(len(numbers)))
    expected = numbers.to(FP8)
    assert torch.equal(found.view(FP8).float(), expected.float())
    assert torch.equal(found & 0x80, expected.view(torch.uint8) & 0x80)


def test_rotating_and_storing_in_fp8_is_its_twin() -> None:
    for dtype, head_dim in ((torch.float32, 24), (torch.float16, 16), (torch.bfloat16, 16)):
        q, k, v = (normal(5, heads, head_dim, seed=heads, dtype=dtype) for heads in (6, 2, 3))
        v = v[:, :2].contiguous()
        v[3, 1], v[2, 0, 5] = 0, torch.nan
        rotation = rotations(torch.tensor([0, 7, 100, 3, 4000]), head_dim, 1e6)
        slots = torch.tensor([9, 0, 4, 3, 7])
        found, expected = (LayerCache(*(torch.empty(12, 2, head_dim, dtype=FP8) for _ in "kv")) for _ in range(2))
        expected.write(rotate_by_torch(k, rotation), v, slots)
        scales = {"k_scales": found.k_scales, "v_scales": found.v_scales}
        elementwise.rotate_and_store(q, k, v, rotation, found.k, found.v, slots, **scales)
        for numbers, wanted in zip(found.read(slots, torch.float32), expected.read(slots, torch.float32), strict=True):
            assert wanted.isnan().sum() <= head_dim
            # Rotation may end in another last bit, which may be rounded to the neighbour.
            torch.testing.assert_close(numbers, wanted, atol=1e-2, rtol=0.13, equal_nan=True)
            same = (numbers == wanted) | wanted.isnan()
            assert (
                dtype == torch.bfloat16 or same.float().mean() > 0.85
            )  # the interpreter cuts what bfloat16 cannot hold


def test_what_a_window_has_left_is_not_read() -> None:
    cache, metadata, _ = scene([(90, 1)], kv_heads=2, head_dim=16, dtype=torch.float32)
    q, nothing = normal(1, 4, 16, seed=4), torch.empty(1, 2, 16)
    expected = SdpaBackend().attend(q, nothing, nothing, cache=cache, metadata=metadata, window=10)
    slots = metadata.spans[0].key_slots
    assert isinstance(slots, Tensor)
    for numbers in (cache.k, cache.v):
        numbers[slots[:80]] = float("nan")
    paged = metadata.paged
    assert paged is not None
    found = paged_attention.paged_attention(
        q,
        cache.k,
        cache.v,
        block_tables=paged.block_tables,
        block_size=paged.block_size,
        rows=paged.rows,
        context_lens=paged.context_lens,
        query_starts=paged.query_starts,
        max_query_len=1,
        window=10,
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16])
@pytest.mark.parametrize("dim", [16, 48, 320])
def test_the_norm_is_its_twin(dim: int, dtype: torch.dtype) -> None:
    x, weight = normal(3, dim, dtype=dtype), normal(dim, seed=1, dtype=dtype)
    expected = rms_norm_by_torch(x, weight, 1e-5)
    tolerance = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(elementwise.rms_norm(x, weight, 1e-5), expected, atol=tolerance, rtol=tolerance)
    added = normal(3, dim, seed=2, dtype=dtype)
    total, normed = elementwise.add_rms_norm(x, added, weight, 1e-5)
    # The interpreter cuts off what bfloat16 has no bits for.
    torch.testing.assert_close(total, x + added, atol=0, rtol=2**-7 if dtype == torch.bfloat16 else 0)
    assert torch.equal(normed, elementwise.rms_norm(total, weight, 1e-5))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16])
def test_the_gate_is_its_twin(dtype: torch.dtype) -> None:
    gate, up = normal(5, 300, dtype=dtype) * 4, normal(5, 300, seed=1, dtype=dtype)
    expected = swiglu_by_torch(gate.clone(), up)
    tolerance = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    halves = torch.cat([gate, up], dim=1).chunk(2, dim=1)
    torch.testing.assert_close(elementwise.swiglu_(gate, up), expected, atol=tolerance, rtol=tolerance)
    assert torch.equal(elementwise.swiglu_(*halves), gate)
    assert torch.equal(halves[1], up)


@pytest.mark.parametrize("is_joined", [False, True])
@pytest.mark.parametrize(("head_dim", "dtype"), [(24, torch.float32), (16, torch.float16), (16, torch.bfloat16)])
def test_rotating_and_storing_are_their_twins(head_dim: int, dtype: torch.dtype, is_joined: bool) -> None:
    """Q, k and v lie apart, or are columns of one product."""
    q, k, v = normal(5, 10, head_dim, dtype=dtype).split([6, 2, 2], dim=1)
    q, k, v = (q, k, v) if is_joined else (t.contiguous() for t in (q, k, v))
    original = q.clone()
    rotation = rotations(torch.tensor([0, 7, 100, 3, 4000]), head_dim, 1e6)
    slots = torch.tensor([9, 0, 4, 3, 7])
    cache = LayerCache(torch.zeros(12, 2, head_dim, dtype=dtype), torch.zeros(12, 2, head_dim, dtype=dtype))
    expected = LayerCache(cache.k.clone(), cache.v.clone())
    expected.write(rotate_by_torch(k, rotation), v, slots)
    expected_q = rotate_by_torch(q, rotation)
    found_q = elementwise.rotate_and_store(q, k, v, rotation, cache.k, cache.v, slots)
    assert found_q.is_contiguous()
    assert torch.equal(q, original)
    tolerance = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for found, wanted in ((found_q, expected_q), (cache.k, expected.k), (cache.v, expected.v)):
        torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_a_model_runs_on_these_kernels_from_prompt_to_answer(
    kv_dtype: KVDtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunked prompts, shared beginnings and mixed windows, through the engine's own tensors."""
    tiny = {"head_dim": 16, "n_heads": 2, "n_kv_heads": 1, "vocab_size": 40}
    model = Transformer.from_folder(write_checkpoint(tmp_path, **tiny, sliding_window=[None, 6]))
    shared = list(range(2, 12))
    prompts = [[*shared, 20], [*shared, 21, 22, 23], [5]]
    config = EngineConfig(
        max_num_seqs=2, max_context=64, block_size=4, max_prefill_chunk=5, overlap=True, kv_dtype=kv_dtype
    )
    params = [SamplingParams(max_tokens=3, logprobs=True)] * len(prompts)

    def answers() -> list[Sequence]:
        select_backend.cache_clear()
        return Engine(model, config).generate(prompts, params)

    expected = answers()
    monkeypatch.setenv(SWITCH, "1")
    found = answers()
    assert select_backend(model.device, model.dtype, 16).name == "triton"
    select_backend.cache_clear()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.new_tokens == theirs.new_tokens
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


@pytest.mark.parametrize(("window", "is_paged"), [(None, False), (12, False), (6, True)])
def test_long_prompts_from_their_beginning_go_to_torch(
    window: int | None, is_paged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, metadata, _ = scene([(8, 8), (12, 12)], kv_heads=2, head_dim=16, dtype=torch.float32)
    slots = torch.cat([span.key_slots for span in metadata.spans if isinstance(span.key_slots, Tensor)])
    metadata = replace(metadata, slot_mapping=slots)
    q, k, v = normal(20, 4, 16, seed=4), normal(20, 2, 16, seed=5), normal(20, 2, 16, seed=6)
    rotation = rotations(torch.cat([torch.arange(8), torch.arange(12)]), 16, 10_000.0)
    given = {"cache": cache, "metadata": metadata, "window": window}
    expected = SdpaBackend().rotate_and_attend(q, k, v, rotation, **given)
    monkeypatch.setattr(triton_attention, "LONG_PROMPT", 8)
    paged_calls: list[Tensor] = []
    attend = triton_attention._attend
    monkeypatch.setattr(triton_attention, "_attend", lambda q, *rest: (paged_calls.append(q), attend(q, *rest))[1])
    found = triton_attention.TritonBackend().rotate_and_attend(q.clone(), k, v, rotation, **given)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert bool(paged_calls) == is_paged


def test_a_cpu_is_served_in_tests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    assert "CUDA only" in reasons_against_triton(torch.device("cpu"))[0]
    monkeypatch.setenv(SWITCH, "1")
    assert reasons_against_triton(torch.device("cpu")) == []
    monkeypatch.delenv("TRITON_INTERPRET")
    assert "CUDA only" in reasons_against_triton(torch.device("cpu"))[0]
