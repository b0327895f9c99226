"""The engine: abort, preemption and bookkeeping; what a sequence gets never depends on what runs beside it."""

import random
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from oracle import one_file_ref

from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.model_runner import PendingStep
from mistral_local.engine.sequence import Sequence, Status
from mistral_local.errors import OutOfMemoryError, PromptTooLongError, UsageError
from mistral_local.kvcache.storage import kv_bytes_per_token
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

VOCAB = 211
GREEDY = SamplingParams(max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), vocab_size=VOCAB, sliding_window=[None, 6])


@pytest.fixture(scope="module")
def model(folder: Path) -> Transformer:
    return Transformer.from_folder(folder)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> one_file_ref.Transformer:
    return one_file_ref.Transformer.from_folder(folder)


def make_engine(model: Transformer, *, num_blocks: int | None = None, max_context: int = 64, **config: int) -> Engine:
    block_size = config.setdefault("block_size", 4)
    if num_blocks is not None:
        args = model.args
        token_bytes = kv_bytes_per_token(
            n_layers=args.n_layers, n_kv_heads=args.n_kv_heads, head_dim=args.head_dim, dtype=model.dtype
        )
        config["kv_memory_bytes"] = num_blocks * block_size * token_bytes
    return Engine(model, EngineConfig(max_context=max_context, **{"max_num_seqs": 4, **config}))


def random_prompt(rng: random.Random, longest: int = 20) -> list[int]:
    return rng.choices(range(VOCAB), k=rng.randint(1, longest))


def check_bookkeeping(engine: Engine) -> None:
    """Free + owned == total, no block with two owners, every running sequence has room for what was computed."""
    owned: list[int] = []
    for sequence in engine.scheduler.running:
        assert sequence.status is Status.RUNNING
        assert sequence.blocks is not None
        assert sequence.blocks.num_blocks * engine.config.block_size >= sequence.num_computed_tokens
        for table in sequence.blocks.tables:
            owned += table.blocks[table.num_given_back :]
    assert len(owned) == len(set(owned))
    assert len(owned) + engine.pool.num_free == engine.pool.num_blocks
    for sequence in engine.scheduler.waiting:
        assert sequence.blocks is None
        assert sequence.num_computed_tokens == 0


def test_a_stream_yields_the_tokens_of_the_oracle(model: Transformer, oracle: one_file_ref.Transformer) -> None:
    engine = make_engine(model)
    prompt = [3, 1, 4, 1, 5, 9]
    expected, _ = one_file_ref.generate(oracle, prompt, max_tokens=12)
    assert list(engine.stream(engine.add(prompt, GREEDY))) == expected
    assert engine.pool.num_free == engine.pool.num_blocks


def test_closing_a_stream_aborts_its_sequence_at_once(model: Transformer) -> None:
    engine = make_engine(model)
    sequence = engine.add([1, 2, 3], GREEDY)
    stream = engine.stream(sequence)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert sequence.finish_reason == "aborted"
    assert engine.pool.num_free == engine.pool.num_blocks
    assert not engine.has_work


def test_a_waiting_sequence_can_be_aborted(model: Transformer) -> None:
    engine = make_engine(model, max_num_seqs=1)
    first, second = engine.add([1], GREEDY), engine.add([2], GREEDY)
    engine.step()
    engine.abort(second)
    engine.run([first])
    assert (first.finish_reason, second.finish_reason, second.new_tokens) == ("length", "aborted", [])
    assert not engine.has_work


def test_short_memory_preempts_the_newest_and_changes_no_answer(
    model: Transformer, oracle: one_file_ref.Transformer
) -> None:
    rng = random.Random(2)
    engine = make_engine(model, num_blocks=10)
    prompts = [random_prompt(rng, 9) for _ in range(6)]
    sequences = [engine.add(prompt, SamplingParams(max_tokens=25, logprobs=True)) for prompt in prompts]
    num_preempted = 0
    while engine.has_work:
        running = list(engine.scheduler.running)
        engine.step()
        check_bookkeeping(engine)
        num_preempted += sum(s.status is Status.WAITING for s in running)
    assert num_preempted > 0
    for prompt, sequence in zip(prompts, sequences, strict=True):
        expected, logprobs = one_file_ref.generate(oracle, prompt, max_tokens=25)
        assert sequence.new_tokens == expected
        assert torch.allclose(torch.tensor(sequence.logprobs), torch.tensor(logprobs[-25:]), atol=1e-4)


def test_preempted_sequences_keep_their_prompt_logprobs_and_random_numbers(model: Transformer) -> None:
    params = [
        SamplingParams(max_tokens=20, temperature=1.0, seed=s, logprobs=True, prompt_logprobs=True) for s in range(5)
    ]
    prompts = [random_prompt(random.Random(s), 9) for s in range(5)]
    roomy = make_engine(model, max_num_seqs=5)
    short = make_engine(model, max_num_seqs=5, num_blocks=8, max_num_batched_tokens=6, max_prefill_chunk=4)
    answers = []
    for engine in (roomy, short):
        sequences = [engine.add(prompt, its) for prompt, its in zip(prompts, params, strict=True)]
        num_preempted = 0
        while engine.has_work:
            running = list(engine.scheduler.running)
            engine.step()
            num_preempted += sum(s.status is Status.WAITING for s in running)
        assert (num_preempted > 0) == (engine is short)
        answers.append(sequences)
    for undisturbed, preempted in zip(*answers, strict=True):
        assert undisturbed.new_tokens == preempted.new_tokens
        assert len(preempted.prompt_logprobs) == preempted.num_prompt_tokens - 1
        for name in ("prompt_logprobs", "logprobs"):
            expected, found = (torch.tensor(getattr(s, name)) for s in (undisturbed, preempted))
            assert torch.allclose(found, expected, atol=1e-4)


def test_a_step_never_exceeds_its_token_budget_and_mixes_prompts_with_decoding(model: Transformer) -> None:
    engine = make_engine(model, max_num_batched_tokens=8)
    first = engine.add([1, 2], SamplingParams(max_tokens=20))
    engine.step()
    engine.add(list(range(30)), GREEDY)
    step = engine.scheduler.schedule()
    assert [(part.sequence is first, part.num_tokens) for part in step] == [(True, 1), (False, 7)]


def test_chunked_prompts_that_do_not_fit_together_are_not_computed_twice(model: Transformer) -> None:
    engine = make_engine(model, num_blocks=16, max_num_batched_tokens=16, max_prefill_chunk=4)
    sequences = [engine.add([i] * 44, SamplingParams(max_tokens=4)) for i in range(3)]
    num_computed = 0
    while engine.has_work:
        before = {s: s.num_computed_tokens for s in sequences}
        engine.step()
        num_computed += sum(max(0, s.num_computed_tokens - before[s]) for s in sequences)
        assert all(s.num_computed_tokens >= before[s] for s in sequences)
    assert num_computed == 3 * (44 + 3)


def test_a_sequence_that_can_never_fit_is_refused_at_once(model: Transformer) -> None:
    engine = make_engine(model, num_blocks=4)
    with pytest.raises(PromptTooLongError, match="the prompt has 16 tokens; a context of 16"):
        engine.add([1] * 16, SamplingParams(max_tokens=1))
    with pytest.raises(OutOfMemoryError, match="need a KV cache of 22 tokens, there is memory for 16"):
        engine.add([1] * 10, GREEDY)
    assert not engine.has_work


def test_an_answer_never_leaves_the_context_whatever_the_cache_holds(model: Transformer) -> None:
    engine = make_engine(model, max_context=64, max_num_seqs=4)
    assert engine.kv_tokens == 256
    with pytest.raises(PromptTooLongError, match="prompt and answer need 65 tokens, the context has 64"):
        engine.add([1] * 10, SamplingParams(max_tokens=55))
    sequence = engine.add([1] * 10, SamplingParams(max_tokens=54))
    engine.run([sequence])
    assert len(sequence.tokens) == 64


def test_a_cache_without_memory_says_what_it_needs(model: Transformer) -> None:
    with pytest.raises(OutOfMemoryError, match=r"needs .* MB a block, 0.0 MB may be used"):
        Engine(model, EngineConfig(max_num_seqs=1, max_context=64, kv_memory_bytes=1))


def test_limits_must_be_positive() -> None:
    with pytest.raises(UsageError, match="max_num_seqs: expected at least 1, got 0"):
        EngineConfig(max_num_seqs=0, max_context=1)


def test_logits_that_are_not_finite_end_the_sequence_with_an_error(folder: Path) -> None:
    broken = Transformer.from_folder(folder)
    with torch.no_grad():
        broken.tok_embeddings.weight[7] = float("nan")
    engine = make_engine(broken)
    bad, good = engine.add([7, 1], GREEDY), engine.add([2, 1], GREEDY)
    engine.run([bad, good])
    assert (bad.finish_reason, bad.new_tokens) == ("error", [])
    assert "not finite" in (bad.error or "")
    assert (good.finish_reason, good.num_new_tokens) == ("length", 12)
    assert engine.stats().right_guesses == 0


def test_an_exception_in_a_step_leaves_no_blocks_behind(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(model)
    sequences = [engine.add([1, 2, 3], GREEDY), engine.add([4], GREEDY)]
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(engine._runner, "begin", lambda plan, rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.run(sequences)
    assert engine.pool.num_free == engine.pool.num_blocks
    again = engine.add([1, 2, 3], GREEDY)
    engine.run([again])
    assert again.finish_reason == "length"


@pytest.mark.parametrize("overlap", [False, True])
def test_sequences_outlive_a_step_whose_result_cannot_be_read(
    model: Transformer, monkeypatch: pytest.MonkeyPatch, *, overlap: bool
) -> None:
    """Ctrl-C while one caller waits for a GPU must not stop the others for ever."""
    prompts = [[1, 2, 3], [4, 5], list(range(30))]
    expected = [make_engine(model).generate([prompt], [GREEDY])[0].new_tokens for prompt in prompts]
    engine = make_engine(model, overlap=overlap, max_num_batched_tokens=16)
    sequences = [engine.add(prompt, GREEDY) for prompt in prompts]
    for num_steps in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(PendingStep, "result", lambda self: (_ for _ in ()).throw(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                engine.step()
        check_bookkeeping(engine)
        for _ in range(num_steps):
            engine.step()
    for _ in range(40):
        engine.step()
    assert [sequence.new_tokens for sequence in sequences] == expected
    assert engine.pool.num_free == engine.pool.num_blocks


def test_a_step_without_memory_is_named_as_such(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(model)

    def begin(plan: object, rows: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine._runner, "begin", begin)
    with pytest.raises(OutOfMemoryError, match="no memory on cpu for a step of 3 tokens"):
        engine.run([engine.add([1, 2, 3], GREEDY)])
    assert engine.pool.num_free == engine.pool.num_blocks


@pytest.mark.parametrize("seed", range(4))
def test_random_traffic_keeps_the_books_and_every_survivor_equals_its_solo_run(model: Transformer, seed: int) -> None:
    rng = random.Random(seed)
    engine = make_engine(model, num_blocks=24, max_num_batched_tokens=16)
    jobs: list[tuple[Sequence, SamplingParams]] = []
    for _ in range(120):
        if rng.random() < 0.3:
            params = SamplingParams(
                max_tokens=rng.randint(1, 20),
                temperature=rng.choice([0.0, 1.0]),
                seed=rng.randint(0, 9),
                stop_token_ids=frozenset(rng.sample(range(VOCAB), 3)),
            )
            jobs.append((engine.add(random_prompt(rng), params), params))
        if rng.random() < 0.05 and jobs:
            engine.abort(rng.choice(jobs)[0])
        engine.step()
        check_bookkeeping(engine)
    engine.run([sequence for sequence, _ in jobs])
    assert engine.pool.num_free == engine.pool.num_blocks
    assert sum(sequence.finish_reason == "aborted" for sequence, _ in jobs) < len(jobs) / 2
    for sequence, params in jobs:
        if sequence.finish_reason != "aborted":
            solo = make_engine(model)
            alone = solo.add(sequence.tokens[: sequence.num_prompt_tokens], params)
            solo.run([alone])
            assert (sequence.new_tokens, sequence.finish_reason) == (alone.new_tokens, alone.finish_reason)


def test_penalties_top_logprobs_and_min_tokens_reach_the_sampler_and_survive_preemption(model: Transformer) -> None:
    params = SamplingParams(
        max_tokens=18,
        min_tokens=10,
        repetition_penalty=1.5,
        frequency_penalty=0.5,
        stop_token_ids=frozenset(range(0, VOCAB, 2)),
        logprobs=True,
        top_logprobs=3,
    )
    prompts = [[seed, 7, 9, 11] for seed in range(5)]
    answers = []
    for num_blocks in (64, 8):
        engine = make_engine(model, max_num_seqs=5, num_blocks=num_blocks)
        sequences = [engine.add(prompt, params) for prompt in prompts]
        engine.run(sequences)
        answers.append([(s.new_tokens, s.finish_reason) for s in sequences])
        for sequence in sequences:
            assert sequence.num_new_tokens >= 10
            assert len(sequence.top_logprobs) == len(sequence.logprobs) == sequence.num_new_tokens
            assert all(len(top) == 3 and top[0][1] >= top[1][1] >= top[2][1] for top in sequence.top_logprobs)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("num_blocks", [None, 12])
def test_planning_a_step_ahead_changes_no_answer(model: Transformer, num_blocks: int | None) -> None:
    """Requests that plan ahead, beside some that cannot; stop tokens are found out a step late."""
    rng = random.Random(5)
    requests = [
        (
            random_prompt(rng, 9),
            SamplingParams(
                max_tokens=rng.randint(1, 25),
                temperature=rng.choice([0.0, 1.5]),
                seed=seed,
                stop_token_ids=frozenset(rng.sample(range(VOCAB), 2)),
                logprobs=rng.random() < 0.5,
                presence_penalty=rng.choice([0.0] * 9 + [0.5]),
            ),
        )
        for seed in range(40)
    ]
    answers = {}
    for overlap in (False, True):
        engine = make_engine(model, num_blocks=num_blocks, overlap=overlap, max_num_batched_tokens=24)
        sequences = [engine.add(prompt, params) for prompt, params in requests]
        num_ahead = 0
        while engine.has_work:
            engine.step()
            check_bookkeeping(engine)
            num_ahead += bool(engine._under_way)
        assert (num_ahead > 20) == overlap
        assert engine.pool.num_free == engine.pool.num_blocks
        answers[overlap] = [(s.new_tokens, s.finish_reason, s.logprobs) for s in sequences]
    for (tokens, reason, logprobs), (expected_tokens, expected_reason, expected_logprobs) in zip(
        answers[True], answers[False], strict=True
    ):
        assert (tokens, reason) == (expected_tokens, expected_reason)
        assert logprobs == pytest.approx(expected_logprobs, abs=1e-5)


def test_a_step_ahead_that_finds_no_memory_loses_nothing(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make_engine(model).generate([[1, 2, 3]], [GREEDY])[0].new_tokens
    engine = make_engine(model, overlap=True)
    sequence = engine.add([1, 2, 3], GREEDY)
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(engine._runner, "_begin", lambda plan, rows: (_ for _ in ()).throw(MemoryError()))
        assert engine._under_way
        assert engine.step() == [sequence]  # that of the step under way
        assert not engine._under_way
        with pytest.raises(OutOfMemoryError):
            engine.step()
    engine.run([sequence])
    assert sequence.new_tokens == expected
