"""Steps that are recorded and replayed.

There is no CUDA here, so the recorder is replaced by one that calls the recorded function again, with the batch that it was
recorded with: what a later step wants to change must be in that batch's tensors.  Attention is that of torch, with its
sequences read from those tensors; one test has Triton's, in its interpreter.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from torch import Tensor

from mistral_local.args import MoeArgs
from mistral_local.attention import select
from mistral_local.attention.batch import AttentionMetadata, SequenceSpan
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.attention.select import select_backend
from mistral_local.config import EngineConfig
from mistral_local.engine import step_graphs
from mistral_local.engine.engine import Engine
from mistral_local.engine.kv_memory import KVMemory
from mistral_local.engine.roads import name_of_road, reasons_against_faster_roads
from mistral_local.engine.sequence import Sequence
from mistral_local.engine.step_graphs import SIZES, reasons_against_step_graphs, sizes_of_graphs
from mistral_local.engine.warm_up import warmed_up
from mistral_local.generate import generate
from mistral_local.kernels.triton import MAX_TOKENS_OF_EXPERTS, SWITCH
from mistral_local.kvcache.storage import LayerCache
from mistral_local.model import moe
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

if torch.cuda.is_available():
    pytest.skip("a GPU records real graphs: test_gpu.py", allow_module_level=True)

KINDS: dict[str, dict[str, Any]] = {
    "dense": {},
    "windows per layer": {"sliding_window": [None, 6]},
    "mixture": {"moe": MoeArgs(num_experts=4, num_experts_per_tok=2)},
    "tied": {"tied": True},
}


class Recorder:
    """Records as GraphRecorder does, on any device."""

    num_replays = 0

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        output = run().clone()

        def replay() -> Tensor:
            Recorder.num_replays += 1
            return output.copy_(run())

        return replay


class TablesBackend(SdpaBackend):
    """Reads who sees what from the tensors of a step, as kernels do."""

    name = "tables"
    reads_block_tables = True

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
        paged = metadata.paged
        assert cache is not None
        assert metadata.slot_mapping is not None
        assert paged is not None
        cache.write(k, v, metadata.slot_mapping)
        out, offsets = torch.zeros_like(q), torch.arange(paged.block_size)
        starts = paged.query_starts.tolist()
        for index, (row, context) in enumerate(zip(paged.rows.tolist(), paged.context_lens.tolist(), strict=True)):
            slots = (paged.block_tables[row][:, None] * paged.block_size + offsets).flatten()[:context]
            span = SequenceSpan(starts[index], starts[index + 1] - starts[index], context, slots)
            rows = slice(span.query_start, span.query_end)
            if context:
                out[rows] = self._attend_one(q[rows], k[rows], v[rows], cache, span, window)
        return out


@pytest.fixture(autouse=True)
def _graphs_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(select, "SdpaBackend", TablesBackend)
    monkeypatch.setattr(moe.MoeFeedForward, "waits_for_host", lambda self, num_tokens: False)
    monkeypatch.setattr(step_graphs, "GraphRecorder", Recorder)
    monkeypatch.setattr(step_graphs, "reasons_against_graphs", lambda device: [])
    monkeypatch.setattr(Recorder, "num_replays", 0)
    select_backend.cache_clear()
    yield
    select_backend.cache_clear()


def load(tmp_path: Path, **params: Any) -> Transformer:
    tiny = {"head_dim": 16, "vocab_size": 40}
    return Transformer.from_folder(write_checkpoint(tmp_path, **{**tiny, **params}))


def engine(model: Transformer, **config: Any) -> Engine:
    return Engine(
        model, EngineConfig(**{"max_num_seqs": 6, "max_context": 64, "block_size": 4, "overlap": True, **config})
    )


def assert_equal(found: list[Sequence], expected: list[Sequence]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.new_tokens == theirs.new_tokens
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_answer_as_others_do(kind: str, tmp_path: Path) -> None:
    """Batches of 1 to 6, with every size padded at some time, sampled and greedy, short and long."""
    model = load(tmp_path, **KINDS[kind])
    rng = random.Random(1)
    prompts = [[rng.randrange(3, 40) for _ in range(rng.randrange(1, 9))] for _ in range(9)]
    params = [
        SamplingParams(max_tokens=4 + 2 * row, temperature=0.7 * (row % 2), seed=row, logprobs=True) for row in range(9)
    ]
    expected = engine(model, graphs=False).generate(prompts, params)
    assert not Recorder.num_replays
    assert_equal(engine(model).generate(prompts, params), expected)
    assert Recorder.num_replays >= 20


def test_a_step_that_wants_more_than_tokens_is_not_recorded(tmp_path: Path) -> None:
    model = load(tmp_path)
    asks = [SamplingParams(max_tokens=1, prompt_logprobs=True), SamplingParams(max_tokens=1, pooling="last")]
    for params in asks * 3:
        engine(model).generate([[5, 6, 7]], [params])
    assert not Recorder.num_replays


def test_padding_chooses_no_expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tmp_path, **KINDS["mixture"])
    chosen: list[Tensor] = []
    numbers_here = moe.MoeFeedForward._numbers_here

    def noting(self: moe.MoeFeedForward, experts: Tensor, is_token: Tensor | None) -> Tensor:
        found = numbers_here(self, experts, is_token)
        if is_token is not None:
            chosen.append(found)
        return found

    monkeypatch.setattr(moe.MoeFeedForward, "_numbers_here", noting)
    engine(model).generate([[5], [6], [7]], [SamplingParams(max_tokens=3)] * 3)
    assert chosen
    for experts in chosen:
        assert experts.shape == (4, 2)
        assert (experts[:3] >= 0).all()
        assert (experts[3:] == moe.NO_EXPERT).all()


def test_many_rows_of_padding_have_no_expert_either(tmp_path: Path) -> None:
    """More rows than Triton's kernels take are sorted by expert."""
    model = load(tmp_path, **KINDS["mixture"])
    layer = next(module for module in model.modules() if isinstance(module, moe.MoeFeedForward))
    x = torch.randn(20, model.args.dim, generator=torch.Generator().manual_seed(0))
    is_token = torch.arange(20) < 17
    with torch.inference_mode():
        torch.testing.assert_close(layer(x, is_token)[:17], layer(x)[:17])
        assert not layer(x, is_token)[17:].any()


def test_replaced_weights_are_recorded_anew(tmp_path: Path) -> None:
    model = load(tmp_path, dim=64, hidden_dim=64)
    kept, params = engine(model), [SamplingParams(max_tokens=6, logprobs=True)]
    graphs = kept.kv.runner_memory(model, kept.config).graphs
    before = kept.generate([[5, 6, 7]], params)
    recorder = graphs._recorder
    model.quantize("int4")
    found = kept.generate([[5, 6, 7]], params)
    assert graphs._recorder is not recorder  # memory that graphs have left cannot be recorded in again
    assert found[0].logprobs != pytest.approx(before[0].logprobs, abs=1e-5)
    assert_equal(found, engine(model, graphs=False).generate([[5, 6, 7]], params))


def test_the_next_call_replays_what_the_last_one_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[int] = []
    record = Recorder.record

    def noting(self: Recorder, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        recorded.append(1)
        return record(self, run)

    monkeypatch.setattr(Recorder, "record", noting)
    model = load(tmp_path)
    first = generate([[5, 6, 7]], model, max_tokens=6, temperature=0.0)
    assert len(recorded) == 1
    assert generate([[5, 6, 7]], model, max_tokens=6, temperature=0.0) == first
    assert len(recorded) == 1


def test_padding_writes_to_a_block_of_its_own(tmp_path: Path) -> None:
    model = load(tmp_path)
    config = EngineConfig(max_num_seqs=4, max_context=64, block_size=4, kv_memory_bytes=20_000)
    recorded, plain = KVMemory.allocate(model, config), KVMemory.allocate(model, replace(config, graphs=False))
    for kv in (recorded, plain):
        assert 18_000 < kv.cache.num_bytes <= 20_000
        assert kv.cache.num_blocks == kv.pool.num_blocks
    assert recorded.pool.num_blocks == plain.pool.num_blocks - 1
    assert len(recorded.cache.layers[0].k) == recorded.cache.scratch_slot + 4
    small = replace(config, kv_memory_bytes=6_000)
    assert recorded.suits(model, replace(small, max_context=8))
    assert not plain.suits(model, replace(small, max_context=8))
    assert plain.suits(model, replace(small, max_context=8, graphs=False))


def test_a_warm_engine_has_recorded_a_step_and_counted_nothing(tmp_path: Path) -> None:
    model = load(tmp_path)
    warm = warmed_up(engine(model))
    assert warm.stats() == engine(model).stats()
    assert warm.pool.num_free == warm.pool.num_blocks
    num_replays = Recorder.num_replays
    assert num_replays
    params = [SamplingParams(max_tokens=3, logprobs=True)]
    found = warm.generate([[5, 6, 7]], params)
    assert Recorder.num_replays == num_replays + 2  # the first token is the prompt's
    assert_equal(found, engine(model, graphs=False).generate([[5, 6, 7]], params))


def test_an_engine_without_room_stays_cold(tmp_path: Path) -> None:
    cold = engine(load(tmp_path), max_context=20)
    assert warmed_up(cold) is cold


def test_what_cannot_be_recorded_runs_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Recorder, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    model = load(tmp_path)
    params = [SamplingParams(max_tokens=6, logprobs=True)]
    expected = engine(model, graphs=False).generate([[5, 6, 7]], params)
    monkeypatch.setattr(Recorder, "record", refuse)
    with caplog.at_level(logging.WARNING):
        assert_equal(engine(model).generate([[5, 6, 7]], params), expected)
    assert [record.getMessage() for record in caplog.records] == [
        "No graph for steps of 1 sequences, nor any further: operation not permitted when stream is capturing"
    ]


def test_sizes_reach_the_largest_batch_and_no_further(tmp_path: Path) -> None:
    model = load(tmp_path)
    limits = {"max_context": 64}
    assert sizes_of_graphs(model, EngineConfig(max_num_seqs=6, **limits)) == [1, 2, 4, 6]
    assert sizes_of_graphs(model, EngineConfig(max_num_seqs=8, max_num_batched_tokens=3, **limits)) == [1, 2, 3]
    assert sizes_of_graphs(model, EngineConfig(max_num_seqs=999, **limits)) == list(SIZES)
    assert sizes_of_graphs(model, EngineConfig(max_num_seqs=8, graphs=False, **limits)) == []


def test_sizes_that_wait_for_the_host_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU tokens are sorted by expert on the host where there are more than Triton takes."""
    monkeypatch.undo()
    pytest.importorskip("triton")
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr(step_graphs, "reasons_against_graphs", lambda device: [])
    select_backend.cache_clear()
    model = load(tmp_path, **KINDS["mixture"])
    assert sizes_of_graphs(model, EngineConfig(max_num_seqs=80, max_context=64)) == [
        size for size in SIZES if size <= MAX_TOKENS_OF_EXPERTS
    ]


def test_why_there_are_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = load(tmp_path), EngineConfig(max_num_seqs=2, max_context=64)
    assert reasons_against_step_graphs(model, config) == []
    assert reasons_against_step_graphs(model, replace(config, graphs=False)) == ["they are turned off"]
    monkeypatch.undo()
    select_backend.cache_clear()
    assert reasons_against_step_graphs(model, config) == [
        "graphs of kernels are recorded on CUDA only, not on cpu",
        "sdpa attention is told by the host where keys lie",
    ]


def test_the_road_is_named_and_why_it_is_no_faster_one(tmp_path: Path) -> None:
    model, config = load(tmp_path), EngineConfig(max_num_seqs=2, max_context=64)
    assert name_of_road(model, config) == "tables attention, recorded steps"
    assert name_of_road(model, replace(config, graphs=False)) == "tables attention"
    assert reasons_against_faster_roads(model, config) == [
        "tables attention, not native: compiled kernels serve bfloat16 on a CPU, not torch.float32 on cpu"
    ]


def test_triton_kernels_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotation, the write to the cache and attention with padding."""
    pytest.importorskip("triton")
    model, prompts = load(tmp_path, n_layers=1), [[5, 6], [7], [8]]
    params = [SamplingParams(max_tokens=4, logprobs=True)] * 3
    expected = engine(model, graphs=False).generate(prompts, params)
    monkeypatch.setenv(SWITCH, "1")
    select_backend.cache_clear()
    assert_equal(engine(model).generate(prompts, params), expected)
    assert select_backend(model.device, model.dtype, 16).name == "triton"
    assert Recorder.num_replays
