"""Steps of a pipeline: as many under way as there are stages, no sequence in two that wait for its token."""

import random

import pytest
from checkpoints import write_checkpoint

from mistral_local.config import EngineConfig
from mistral_local.engine.batch_tensors import BatchTensors
from mistral_local.engine.engine import Engine
from mistral_local.engine.step_plan import NewBlocks, PlannedPart, StepPlan
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

NUM_STAGES = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    return Transformer.from_folder(write_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def make_engine(model: Transformer, *, num_stages: int, num_blocks: int = 400) -> Engine:
    """An engine that steps as one of a pipeline does, with all stages in this process."""
    block_bytes = 4 * 2 * model.args.n_layers * model.args.n_kv_heads * model.args.head_dim * 4
    engine = Engine(
        model,
        EngineConfig(
            max_num_seqs=6,
            max_context=64,
            max_num_batched_tokens=16,
            block_size=4,
            kv_memory_bytes=num_blocks * block_bytes,
        ),
    )
    engine.scheduler.num_stages = engine._most_under_way = num_stages
    return engine


def requests(num: int) -> list[tuple[list[int], SamplingParams]]:
    rng = random.Random(5)
    return [
        (
            rng.choices(range(3, 300), k=rng.randint(1, 30)),
            SamplingParams(
                max_tokens=rng.randint(1, 14),
                temperature=rng.choice([0.0, 0.9]),
                seed=seed,
                prompt_logprobs=rng.random() < 0.3,
                presence_penalty=rng.choice([0.0, 0.5]),
            ),
        )
        for seed in range(num)
    ]


@pytest.mark.parametrize("num_blocks", [400, 30], ids=["roomy", "tight"])
def test_answers_do_not_depend_on_the_number_of_stages(model: Transformer, num_blocks: int) -> None:
    answers = []
    for num_stages in (1, NUM_STAGES):
        engine = make_engine(model, num_stages=num_stages, num_blocks=num_blocks)
        sequences = [engine.add(prompt, params) for prompt, params in requests(24)]
        while engine.has_work:
            engine.step()
            awaited = [part.sequence for step in engine._under_way for part in step.parts if part.is_sampled]
            assert len(awaited) == len(set(awaited)), "a sequence waits for two tokens"
        assert engine.pool.num_free == engine.pool.num_blocks
        answers.append([sequence.new_tokens for sequence in sequences])
    assert answers[0] == answers[1]


def test_all_stages_have_work_while_sequences_decode(model: Transformer) -> None:
    engine = make_engine(model, num_stages=NUM_STAGES)
    for first in range(6):
        engine.add([first + 3, 9], SamplingParams(max_tokens=20))
    sizes = []
    for _ in range(30):
        engine.step()
        sizes.append([len(step.parts) for step in engine._under_way])
    # One step has just ended; the other stages are at work, each with its share of six sequences.
    assert sizes[6:] == [[2] * (NUM_STAGES - 1)] * 24


def test_the_numbers_of_a_step_are_kept_while_as_many_more_are_prepared_as_there_are_stages(model: Transformer) -> None:
    cache = make_engine(model, num_stages=1).kv.cache
    tensors = BatchTensors(cache, max_tokens=4, max_rows=1, max_context=64, most_under_way=NUM_STAGES)
    plans = [StepPlan([PlannedPart(0, at, [7 + at], (NewBlocks(0, [0]),), num_sampled=1)]) for at in range(NUM_STAGES)]
    batches = [tensors.batch(plan) for plan in plans]
    assert [batch.input_ids.tolist() for batch in batches] == [[7], [8], [9]]
