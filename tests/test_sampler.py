"""The sampler: exact argmax, the nucleus as defined, and one uniform number that decides."""

import random
from typing import Any

import pytest
import torch

from mistral_local.errors import RequestError, TokenIdError
from mistral_local.sampling.params import SamplingParams
from mistral_local.sampling.processors import process_logits
from mistral_local.sampling.row import SamplingRow, SeenTokens
from mistral_local.sampling.sampler import Sampled, sample, token_logprobs

PROBS = torch.tensor([0.05, 0.4, 0.3, 0.25])
LOGITS = PROBS.log()[None]


def sample_one(uniform: float, *, temperature: float = 1.0, top_p: float = 1.0) -> int:
    return int(draw(LOGITS, temperature, top_p, uniform).token_ids[0])


def make_row(
    uniform: float = 0.0, *, seen: SeenTokens | None = None, num_new_tokens: int = 0, **params: Any
) -> SamplingRow:
    return SamplingRow(SamplingParams(**{"max_tokens": 9, **params}), uniform, num_new_tokens, seen)


def draw(logits: torch.Tensor, temperature: float, top_p: float, uniform: float) -> Sampled:
    row = make_row(uniform, temperature=temperature, top_p=top_p, logprobs=True)
    return sample(logits, [row] * logits.shape[0])


def drawn(**params: Any) -> set[int]:
    """Every token that some uniform number gives."""
    rows = [make_row(i / 500, **{"temperature": 1.0, **params}) for i in range(500)]
    return set(sample(LOGITS.expand(500, -1), rows).token_ids.tolist())


def test_temperature_zero_is_the_argmax_and_the_first_of_equals() -> None:
    assert draw(torch.tensor([[1.0, 3.0, 3.0]]), 0.0, 1.0, 0.9).token_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("uniform", "expected"),
    [(0.0, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.94, 3), (0.96, 0), (0.9999999, 0)],
)
def test_the_uniform_number_is_inverted_from_the_likeliest_token_down(uniform: float, expected: int) -> None:
    assert sample_one(uniform) == expected


def test_the_nucleus_keeps_the_token_that_crosses_it_and_no_more() -> None:
    assert drawn(top_p=0.5) == {1, 2}  # 0.4 < 0.5, so 0.3 crosses and stays


def test_frequencies_follow_the_tempered_distribution() -> None:
    count = 20000
    uniforms = ((torch.arange(count) + 0.5) / count).tolist()
    ids = sample(LOGITS.expand(count, -1), [make_row(uniform, temperature=2.0) for uniform in uniforms]).token_ids
    expected = torch.softmax(LOGITS[0] / 2, dim=-1)
    assert torch.allclose(ids.bincount(minlength=4) / count, expected, atol=1e-3)


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38, 1e-44, 1e-300])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    logits = torch.tensor([[1.0, 5.0, 20.0, 3.0]])
    for uniform in (0.0, 0.5, 1 - 2**-53):
        assert draw(logits, temperature, 1.0, uniform).token_ids.tolist() == [2]


def test_logprobs_are_never_tempered() -> None:
    sampled = draw(LOGITS, 5.0, 1.0, 0.0)
    assert sampled.logprobs is not None
    assert torch.allclose(sampled.logprobs, PROBS.log()[1:2])
    assert torch.allclose(token_logprobs(LOGITS, torch.tensor([3])), PROBS.log()[3:])


def test_rows_with_and_without_temperature_share_a_batch() -> None:
    rows = [make_row(), make_row(0.96, temperature=1.0)]
    assert sample(LOGITS.expand(2, -1), rows).token_ids.tolist() == [1, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_that_are_not_finite_are_marked_and_the_others_are_right(bad: float, temperature: float) -> None:
    logits = torch.cat([torch.full((1, 4), bad), LOGITS])
    assert draw(logits, temperature, 1.0, 0.0).token_ids.tolist() == [-1, 1]


def test_a_wide_vocabulary_never_leaves_the_nucleus() -> None:
    logits = torch.randn(64, 50_000, generator=torch.Generator().manual_seed(0)) * 4
    for uniform in (0.0, 0.5, 1 - 2**-53):
        sampled = draw(logits, 1.0, 0.3, uniform).token_ids
        probs = torch.softmax(logits, -1)
        above = torch.where(probs > probs.gather(1, sampled[:, None]), probs, 0.0).sum(-1)
        assert (above <= 0.3 + 1e-4).all()


def test_top_k_keeps_the_likeliest_so_many() -> None:
    assert drawn(top_k=1) == {1}
    assert drawn(top_k=3) == {1, 2, 3}
    assert drawn(top_k=99) == {0, 1, 2, 3}


def test_min_p_is_relative_to_the_likeliest() -> None:
    assert drawn(min_p=0.5) == {1, 2, 3}  # 0.5 * 0.4 = 0.2
    assert drawn(min_p=0.7) == {1, 2}
    assert drawn(min_p=1.0) == {1}


def test_top_p_is_taken_of_what_top_k_left() -> None:
    assert drawn(top_k=2, top_p=0.5) == {1}  # 0.4 of the 0.7 that is left crosses 0.5


def test_cuts_of_one_row_do_not_touch_another() -> None:
    rows = [make_row(0.99, temperature=1.0), make_row(0.99, temperature=1.0, top_k=1), make_row(0.99, temperature=0.0)]
    assert sample(LOGITS.expand(3, -1), rows).token_ids.tolist() == [0, 1, 1]


def seen(prompt: list[int], answer: list[int]) -> SeenTokens:
    tokens = SeenTokens(prompt)
    for token in answer:
        tokens.add(token)
    return tokens


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"repetition_penalty": 2.0}, [2.0 / 2, -1.0 * 2, 1.0 / 2, 0.5]),
        ({"presence_penalty": 0.3}, [2.0, -1.3, 0.7, 0.5]),
        ({"frequency_penalty": 0.3}, [2.0, -1.3, 0.4, 0.5]),
        ({"repetition_penalty": 0.5, "presence_penalty": 1.0, "frequency_penalty": 0.1}, [4.0, -1.6, 0.8, 0.5]),
    ],
)
def test_penalties_are_those_of_the_definition(params: dict[str, float], expected: list[float]) -> None:
    logits = torch.tensor([[2.0, -1.0, 1.0, 0.5]])
    row = make_row(seen=seen([0, 1], [2, 1, 2]), **params)
    assert torch.allclose(process_logits(logits, [row])[0], torch.tensor(expected))
    assert logits.tolist() == [[2.0, -1.0, 1.0, 0.5]]


def test_a_row_that_asks_for_nothing_costs_no_copy() -> None:
    assert process_logits(LOGITS, [make_row()]) is LOGITS


def test_bias_bad_ids_and_allowed_ids_decide() -> None:
    rows = [
        make_row(logit_bias={0: 10.0}),
        make_row(bad_token_ids=frozenset([1, 2])),
        make_row(allowed_token_ids=frozenset([0, 3])),
        make_row(),
    ]
    assert sample(LOGITS.expand(4, -1), rows).token_ids.tolist() == [0, 3, 3, 1]


def test_stop_tokens_wait_for_min_tokens() -> None:
    stop = {"stop_token_ids": frozenset([1]), "min_tokens": 3}
    rows = [make_row(num_new_tokens=length, **stop) for length in (0, 2, 3)]
    assert sample(LOGITS.expand(3, -1), rows).token_ids.tolist() == [2, 2, 1]


def test_logprobs_are_those_of_the_model_before_any_processing() -> None:
    row = make_row(logprobs=True, top_logprobs=2, logit_bias={0: 10.0}, bad_token_ids=frozenset([1]))
    sampled = sample(LOGITS, [row])
    assert sampled.logprobs is not None
    assert sampled.top_ids is not None
    assert sampled.top_logprobs is not None
    assert torch.allclose(sampled.logprobs, PROBS.log()[:1])
    assert sampled.top_ids.tolist() == [[1, 2]]
    assert torch.allclose(sampled.top_logprobs, PROBS.log()[None, 1:3])


def test_a_row_may_say_which_tokens_are_scored_beside_the_chosen_one() -> None:
    rows = [make_row(logprobs=True, top_logprobs=1), make_row(logprobs=True, scored_token_ids=(3, 0, 1)), make_row()]
    sampled = sample(LOGITS.expand(3, -1), rows)
    assert sampled.top_ids is not None
    assert sampled.top_logprobs is not None
    assert sampled.top_ids[0, 0] == 1
    assert sampled.top_ids[1].tolist() == [3, 0, 1]
    assert torch.allclose(sampled.top_logprobs[1], PROBS.log()[[3, 0, 1]])
    assert torch.allclose(sampled.top_logprobs[0, 0], PROBS.log()[1])


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": 0}, {"min_tokens": 10}, {"min_tokens": -1}, {"top_k": -1}, {"min_p": 1.1}, {"min_p": float("nan")},
        {"repetition_penalty": 0.0}, {"repetition_penalty": float("inf")}, {"repetition_penalty": 1e-40}, {"logit_bias": {1: 1e300}}, {"logit_bias": {1: -2e6}}, {"presence_penalty": 2.1},
        {"frequency_penalty": float("nan")}, {"top_logprobs": 21}, {"logit_bias": {1: float("inf")}},
        {"scored_token_ids": (1,)}, {"scored_token_ids": (1, 1), "logprobs": True}, {"allowed_token_ids": frozenset()}, {"allowed_token_ids": frozenset([1]), "bad_token_ids": frozenset([1])},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(params: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(params))):
        make_row(**params)


@pytest.mark.parametrize(
    "params",
    [{"logit_bias": {4: 1.0}}, {"allowed_token_ids": frozenset([1, -1])}, {"bad_token_ids": frozenset([10**9])},
     {"scored_token_ids": (4,), "logprobs": True}],
)  # fmt: skip
def test_ids_outside_the_vocabulary_are_refused_by_name(params: dict[str, Any]) -> None:
    with pytest.raises(TokenIdError, match=next(iter(params))):
        SamplingParams(max_tokens=1, **params).check_ids(4)


@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0, 30.0])
def test_looking_at_the_likeliest_tokens_first_changes_no_choice(
    monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    generator = torch.Generator().manual_seed(int(spread * 10))
    rng = random.Random(spread)
    for decimals in (0, 1, 6):  # few decimals make many tokens equally likely
        logits = (torch.randn(400, 50, generator=generator) * spread).round(decimals=decimals)
        logits[::7, 10:] = -torch.inf
        rows = [
            make_row(
                rng.random(),
                temperature=rng.choice([0.0, 0.3, 1.0, 2.0]),
                top_p=rng.choice([1.0, 0.9, 0.5, 1e-6]),
                top_k=rng.choice([0, 0, 1, 4, 20, 1000]),
                min_p=rng.choice([0.0, 0.0, 0.05, 1.0]),
            )
            for _ in logits
        ]
        choices = []
        for num_likely in ((), (2,), (3, 9), (40,)):
            monkeypatch.setattr("mistral_local.sampling.sampler.NUM_LIKELY", num_likely)
            choices.append(sample(logits, rows).token_ids.tolist())
        assert choices[0] == choices[1] == choices[2] == choices[3]
        alone = [int(sample(logits[i : i + 1], rows[i : i + 1]).token_ids) for i in range(0, 400, 9)]
        assert alone == choices[3][::9]
