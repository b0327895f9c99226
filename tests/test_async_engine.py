"""The engine on its own thread: many streams, dropped ones, refused ones, failing steps, and the numbers."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable

import pytest
from checkpoints import write_checkpoint

from mistral_local.config import EngineConfig
from mistral_local.engine.async_engine import AsyncEngine
from mistral_local.engine.engine import Engine
from mistral_local.errors import EngineBusyError, MistralLocalError, TokenIdError
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

VOCAB = 101
PARAMS = SamplingParams(max_tokens=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    return Transformer.from_folder(write_checkpoint(tmp_path_factory.mktemp("checkpoint"), vocab_size=VOCAB))


@pytest.fixture
def engine(model: Transformer) -> Engine:
    return Engine(model, EngineConfig(max_num_seqs=3, max_context=64, block_size=4))


def run(engine: Engine, work: Callable[[AsyncEngine], Awaitable[None]]) -> None:
    """Run a coroutine with a running engine; afterwards nothing may be left behind."""

    async def main() -> None:
        async with AsyncEngine(engine) as running:
            await asyncio.wait_for(work(running), timeout=30)

    asyncio.run(main())
    assert engine.pool.num_free == engine.pool.num_blocks
    assert not engine.has_work
    assert not [thread for thread in threading.enumerate() if thread.name == "mistral_local engine"]


def solo(model: Transformer, prompt: list[int], params: SamplingParams = PARAMS) -> list[int]:
    engine = Engine(model, EngineConfig(max_num_seqs=1, max_context=64))
    sequence = engine.add(prompt, params)
    engine.run([sequence])
    return sequence.new_tokens


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_many_streams_each_get_their_own_answer(model: Transformer, engine: Engine) -> None:
    rng = random.Random(0)
    prompts = [rng.choices(range(VOCAB), k=rng.randint(1, 20)) for _ in range(20)]

    async def read(running: AsyncEngine, prompt: list[int]) -> list[int]:
        return [token async for token in running.stream(prompt, PARAMS)]

    async def work(running: AsyncEngine) -> None:
        answers = await asyncio.gather(*(read(running, prompt) for prompt in prompts))
        assert answers == [solo(model, prompt) for prompt in prompts]

    run(engine, work)


def test_dropping_an_iterator_aborts_its_sequence(engine: Engine) -> None:
    async def work(running: AsyncEngine) -> None:
        stream = running.stream([1, 2], SamplingParams(max_tokens=50))
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        await wait_until(lambda: not engine.has_work)
        assert (await running.stats()).num_finished == {"aborted": 1}

    run(engine, work)


def test_cancelling_a_task_aborts_its_sequence_running_or_waiting(engine: Engine) -> None:
    async def read(running: AsyncEngine) -> None:
        async for _ in running.stream([1, 2], SamplingParams(max_tokens=60)):
            pass

    async def work(running: AsyncEngine) -> None:
        tasks = [asyncio.create_task(read(running)) for _ in range(8)]
        await wait_until(lambda: engine.num_waiting > 0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await wait_until(lambda: not engine.has_work)

    run(engine, work)


def test_a_full_queue_refuses_and_recovers(model: Transformer) -> None:
    async def work(running: AsyncEngine) -> None:
        streams = []
        with pytest.raises(EngineBusyError, match="2 requests wait already"):
            for _ in range(20):
                streams.append(await running.add([1], SamplingParams(max_tokens=60)))  # noqa: PERF401
        for stream in streams:
            running.abort(stream)
        assert [token async for token in running.stream([1], PARAMS)]

    run(Engine(model, EngineConfig(max_num_seqs=3, max_context=64, max_waiting=2)), work)


def test_a_refused_prompt_is_the_callers_error_and_harms_nobody(model: Transformer, engine: Engine) -> None:
    async def work(running: AsyncEngine) -> None:
        other = await running.add([5], PARAMS)
        with pytest.raises(TokenIdError):
            await running.add([VOCAB], PARAMS)
        assert [token async for token in other] == solo(model, [5])

    run(engine, work)


def test_a_step_that_fails_ends_its_sequences_with_the_error_and_the_next_one_is_served(
    model: Transformer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(running: AsyncEngine) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(engine._runner, "begin", lambda plan, rows: 1 / 0)
            with pytest.raises(MistralLocalError, match="ZeroDivisionError"):
                async for _ in running.stream([1, 2], PARAMS):
                    pass
        assert [token async for token in running.stream([5], PARAMS)] == solo(model, [5])

    run(engine, work)


def test_leaving_ends_what_still_runs_and_later_calls_are_refused(engine: Engine) -> None:
    async def main() -> None:
        async with AsyncEngine(engine) as running:
            stream = await running.add([1], SamplingParams(max_tokens=60))
        assert [token async for token in stream] == stream.sequence.new_tokens
        assert stream.sequence.finish_reason in ("aborted", "length")
        with pytest.raises(MistralLocalError, match="the engine does not run"):
            await running.add([1], PARAMS)

    asyncio.run(main())
    assert engine.pool.num_free == engine.pool.num_blocks


def test_the_numbers_add_up(engine: Engine) -> None:
    async def work(running: AsyncEngine) -> None:
        for _ in range(3):
            assert [token async for token in running.stream([1, 2, 3, 4, 5], PARAMS)]
        stats = await running.stats()
        assert (stats.num_running, stats.num_waiting, stats.kv_use) == (0, 0, 0.0)
        assert (stats.prompt_tokens, stats.cached_tokens, stats.new_tokens) == (7, 8, 36)
        assert stats.cache_hit_rate == 8 / 15
        assert stats.num_finished == {"length": 3}
        assert stats.new_tokens_per_s > 0
        assert stats.time_to_first_token_s is not None
        assert stats.queue_time_s is not None
        assert 0 <= stats.queue_time_s <= stats.time_to_first_token_s

    run(engine, work)
