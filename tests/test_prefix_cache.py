"""Prompts that begin alike: computed once, and every answer token for token the one without the cache."""

import random
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from oracle import one_file_ref

from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.generate import generate
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

VOCAB, BLOCK = 211, 4
SYSTEM = random.Random(1).choices(range(VOCAB), k=18)
GREEDY = SamplingParams(max_tokens=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), vocab_size=VOCAB, sliding_window=[None, 6])


@pytest.fixture(scope="module")
def oracle(folder: Path) -> one_file_ref.Transformer:
    return one_file_ref.Transformer.from_folder(folder)


@pytest.fixture
def engine(folder: Path) -> Engine:
    return Engine(Transformer.from_folder(folder), EngineConfig(max_num_seqs=4, max_context=128, block_size=BLOCK))


def answer(engine: Engine, prompt: list[int], params: SamplingParams = GREEDY) -> Sequence:
    sequence = engine.add(prompt, params)
    engine.run([sequence])
    return sequence


def test_a_second_turn_computes_only_what_is_new(engine: Engine, oracle: one_file_ref.Transformer) -> None:
    first = answer(engine, SYSTEM)
    turn = [*first.tokens, 5, 6, 7]
    second = answer(engine, turn)
    # The last answer token was never computed; of the 27 computed ones, 6 blocks are full.
    assert second.num_cached_tokens == 24
    assert second.new_tokens == one_file_ref.generate(oracle, turn, max_tokens=10)[0]
    assert engine.pool.num_free == engine.pool.num_blocks


def test_a_prompt_that_is_wholly_known_still_computes_its_last_token(
    engine: Engine, oracle: one_file_ref.Transformer
) -> None:
    prompt = SYSTEM[:16]
    first, second = answer(engine, prompt), answer(engine, prompt)
    assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 12)
    assert first.new_tokens == second.new_tokens == one_file_ref.generate(oracle, prompt, max_tokens=10)[0]


def test_sequences_that_run_together_share_and_do_not_disturb_each_other(
    engine: Engine, oracle: one_file_ref.Transformer
) -> None:
    answer(engine, SYSTEM)
    prompts = [[*SYSTEM, i, i + 1] for i in range(4)]
    sequences = [engine.add(prompt, GREEDY) for prompt in prompts]
    engine.run(sequences)
    for prompt, sequence in zip(prompts, sequences, strict=True):
        assert sequence.num_cached_tokens == 16
        assert sequence.new_tokens == one_file_ref.generate(oracle, prompt, max_tokens=10)[0]


def test_prompt_logprobs_read_nothing_from_the_cache(engine: Engine, oracle: one_file_ref.Transformer) -> None:
    answer(engine, SYSTEM)
    params = SamplingParams(max_tokens=3, logprobs=True, prompt_logprobs=True)
    scored = answer(engine, SYSTEM, params)
    assert scored.num_cached_tokens == 0
    _, expected = one_file_ref.generate(oracle, SYSTEM, max_tokens=3)
    assert torch.allclose(torch.tensor(scored.prompt_logprobs + scored.logprobs), torch.tensor(expected), atol=1e-4)


def test_logprobs_after_a_cached_prefix_are_the_same(engine: Engine) -> None:
    params = SamplingParams(max_tokens=10, logprobs=True)
    first, second = answer(engine, SYSTEM, params), answer(engine, SYSTEM, params)
    assert second.num_cached_tokens > 0
    assert torch.allclose(torch.tensor(first.logprobs), torch.tensor(second.logprobs), atol=1e-5)


def test_changed_weights_find_nothing_of_the_old_ones(engine: Engine) -> None:
    answer(engine, SYSTEM)
    with torch.no_grad():
        engine.model.layers[0].attention.wq.weight.mul_(1.5)
    assert answer(engine, SYSTEM).num_cached_tokens == 0
    assert answer(engine, SYSTEM).num_cached_tokens == 16


def test_generate_after_merging_an_adapter_does_not_see_the_old_keys(folder: Path) -> None:
    model = Transformer.from_folder(folder)
    generate([SYSTEM], model, max_tokens=5, temperature=0.0, prompt_logprobs=False)
    with torch.no_grad():
        model.layers[1].attention.wv.weight.neg_()
    changed, _ = generate([SYSTEM], model, max_tokens=5, temperature=0.0, prompt_logprobs=False)
    fresh = Transformer.from_folder(folder)
    with torch.no_grad():
        fresh.layers[1].attention.wv.weight.neg_()
    assert changed == generate([SYSTEM], fresh, max_tokens=5, temperature=0.0, prompt_logprobs=False)[0]


@pytest.mark.parametrize("seed", range(3))
def test_random_traffic_with_shared_beginnings_equals_the_oracle(
    folder: Path, oracle: one_file_ref.Transformer, seed: int
) -> None:
    rng = random.Random(seed)
    config = EngineConfig(max_num_seqs=4, max_context=64, block_size=BLOCK, max_num_batched_tokens=24)
    engine = Engine(Transformer.from_folder(folder), config)
    beginnings = [rng.choices(range(VOCAB), k=rng.randint(5, 30)) for _ in range(3)]
    sequences: list[Sequence] = []
    for _ in range(60):
        if rng.random() < 0.4:
            prompt = rng.choice(beginnings)[: rng.randint(1, 30)] + rng.choices(range(VOCAB), k=rng.randint(1, 6))
            sequences.append(engine.add(prompt, SamplingParams(max_tokens=rng.randint(1, 12))))
        if rng.random() < 0.05 and sequences:
            engine.abort(rng.choice(sequences))
        engine.step()
    engine.run(sequences)
    assert engine.pool.num_free == engine.pool.num_blocks
    assert engine.stats().cached_tokens > 0
    for sequence in sequences:
        prompt = sequence.tokens[: sequence.num_prompt_tokens]
        expected, _ = one_file_ref.generate(oracle, prompt, max_tokens=sequence.num_new_tokens)
        assert sequence.new_tokens == expected


@pytest.mark.parametrize("budget", [2048, 8])
def test_several_answers_to_one_prompt_cost_one_prefill(folder: Path, budget: int) -> None:
    config = EngineConfig(max_num_seqs=4, max_context=128, block_size=BLOCK, max_num_batched_tokens=budget)
    engine = Engine(Transformer.from_folder(folder), config)
    params = [SamplingParams(max_tokens=10, temperature=1.0, seed=seed) for seed in range(4)]
    sequences = [engine.add(SYSTEM, its) for its in params]
    engine.run(sequences)
    assert [sequence.num_cached_tokens for sequence in sequences] == [0, 16, 16, 16]
    assert engine.stats().prompt_tokens == 18 + 3 * 2
    assert len({tuple(sequence.new_tokens) for sequence in sequences}) == 4
    for sequence, its in zip(sequences, params, strict=True):
        alone = Engine(engine.model, config)
        assert answer(alone, SYSTEM, its).new_tokens == sequence.new_tokens


def test_waiting_for_a_shared_beginning_ends_when_its_writer_is_aborted(engine: Engine) -> None:
    writer, reader = engine.add(SYSTEM, GREEDY), engine.add(SYSTEM, GREEDY)
    engine.scheduler.schedule()
    engine.abort(writer)
    engine.run([reader])
    assert reader.finish_reason == "length"
