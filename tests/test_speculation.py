"""Speculation by n-gram lookup: the same tokens in fewer steps."""

import random
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint

from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.ngram import NgramProposer
from mistral_local.engine.sequence import Sequence
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

VOCAB = 13
PARAMS = [
    SamplingParams(max_tokens=40, logprobs=True),
    SamplingParams(max_tokens=40, logprobs=True, top_logprobs=2, temperature=0.7, seed=1),
    SamplingParams(max_tokens=40, logprobs=True, temperature=1.0, top_p=0.5, seed=2, stop_token_ids=frozenset({3})),
    SamplingParams(max_tokens=40, logprobs=True, temperature=0.3, seed=3, repetition_penalty=1.3),
    SamplingParams(max_tokens=40, logprobs=True, min_tokens=20, stop_token_ids=frozenset(range(6))),
    SamplingParams(max_tokens=1, logprobs=True),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    """A vocabulary so small that answers repeat themselves."""
    folder: Path = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), vocab_size=VOCAB)
    return Transformer.from_folder(folder)


def answer(model: Transformer, prompts: list[list[int]], params: list[SamplingParams], **config: int) -> list[Sequence]:
    engine = Engine(model, EngineConfig(**{"max_num_seqs": 4, "max_context": 128, "block_size": 4, **config}))
    sequences = [engine.add(prompt, its) for prompt, its in zip(prompts, params, strict=True)]
    engine.run(sequences)
    assert engine.pool.num_free == engine.pool.num_blocks
    if config.get("max_guesses"):
        stats = engine.stats()
        assert stats.right_guesses > 0
        assert stats.guessed_tokens > stats.right_guesses
    return sequences


@pytest.mark.parametrize("config", [{}, {"max_num_seqs": 1}, {"max_num_batched_tokens": 7}])
def test_the_answer_is_the_same(model: Transformer, config: dict[str, int]) -> None:
    rng = random.Random(0)
    params = PARAMS * 3
    prompts = [rng.choices(range(VOCAB), k=rng.randint(1, 40)) for _ in params]
    plain = answer(model, prompts, params, **config)
    guessed = answer(model, prompts, params, max_guesses=6, **config)
    for one, other in zip(plain, guessed, strict=True):
        assert one.new_tokens == other.new_tokens
        assert one.finish_reason == other.finish_reason
        torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-5, rtol=0)
        assert [[token for token, _ in row] for row in one.top_logprobs] == [
            [token for token, _ in row] for row in other.top_logprobs
        ]


def test_an_answer_that_repeats_itself_takes_fewer_steps(model: Transformer) -> None:
    forced = SamplingParams(max_tokens=60, allowed_token_ids=frozenset({5}))
    num_steps = []
    for max_guesses in (0, 8):
        engine = Engine(model, EngineConfig(max_num_seqs=1, max_context=128, max_guesses=max_guesses))
        sequence = engine.add([1, 2, 3], forced)
        count = 0
        while engine.has_work:
            engine.step()
            count += 1
        assert sequence.new_tokens == [5] * 60
        num_steps.append(count)
    assert num_steps[0] == 60
    assert num_steps[1] < 15


def test_many_sequences_at_once_are_not_speculated_on(model: Transformer) -> None:
    engine = Engine(model, EngineConfig(max_num_seqs=16, max_context=64, max_guesses=8))
    sequences = [engine.add([1, 2, row % VOCAB], SamplingParams(max_tokens=20)) for row in range(16)]
    engine.run(sequences)
    assert engine.stats().guessed_tokens == 0


class TestProposer:
    def test_it_guesses_what_followed_the_latest_earlier_occurrence(self) -> None:
        tokens = [1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 7, 1, 2, 3]
        assert NgramProposer().propose(tokens, 2) == (5, 6)

    def test_a_longer_match_goes_first(self) -> None:
        tokens = [8, 1, 2, 3, 4, 9, 1, 2, 3, 5, 8, 1, 2, 3]
        assert NgramProposer().propose(tokens, 1) == (4,)

    def test_without_a_match_it_guesses_nothing(self) -> None:
        for tokens in ([], [1], [1, 2, 3], [1, 2, 3, 4, 5, 6], [1, 1, 1]):
            assert NgramProposer().propose(tokens, 4) == ()

    def test_the_last_tokens_are_no_match_for_themselves(self) -> None:
        assert NgramProposer().propose([1, 2, 3, 4], 4) == ()

    def test_it_guesses_more_after_success_and_less_after_failure(self) -> None:
        proposer, tokens = NgramProposer(), [1, 2, 3, *range(20, 40), 1, 2, 3]
        assert len(proposer.propose(tokens, 16)) == 2
        proposer.learn(2, 2)
        assert len(proposer.propose(tokens, 16)) == 4
        proposer.learn(4, 0)
        assert len(proposer.propose(tokens, 16)) == 1
        assert len(proposer.propose(tokens, 0)) == 0
