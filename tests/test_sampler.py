"""The sampler: exact argmax, the nucleus as defined, and one uniform number that decides."""

import pytest
import torch

from mistral_local.sampling.sampler import Sampled, SamplingBatch, sample, token_logprobs

PROBS = torch.tensor([0.05, 0.4, 0.3, 0.25])
LOGITS = PROBS.log()[None]


def sample_one(uniform: float, *, temperature: float = 1.0, top_p: float = 1.0) -> int:
    return int(draw(LOGITS, temperature, top_p, uniform).token_ids[0])


def draw(logits: torch.Tensor, temperature: float, top_p: float, uniform: float) -> Sampled:
    rows = logits.shape[0]
    return sample(logits, SamplingBatch([temperature] * rows, [top_p] * rows, [uniform] * rows, True))


def test_temperature_zero_is_the_argmax_and_the_first_of_equals() -> None:
    assert draw(torch.tensor([[1.0, 3.0, 3.0]]), 0.0, 1.0, 0.9).token_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("uniform", "expected"),
    [(0.0, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.94, 3), (0.96, 0), (0.9999999, 0)],
)
def test_the_uniform_number_is_inverted_from_the_likeliest_token_down(uniform: float, expected: int) -> None:
    assert sample_one(uniform) == expected


def test_the_nucleus_keeps_the_token_that_crosses_it_and_no_more() -> None:
    drawn = {sample_one(i / 1000, top_p=0.5) for i in range(1000)}
    assert drawn == {1, 2}  # 0.4 < 0.5, so 0.3 crosses and stays


def test_frequencies_follow_the_tempered_distribution() -> None:
    count = 20000
    uniforms = ((torch.arange(count) + 0.5) / count).tolist()
    batch = SamplingBatch([2.0] * count, [1.0] * count, uniforms, False)
    ids = sample(LOGITS.expand(count, -1), batch).token_ids
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
    batch = SamplingBatch([0.0, 1.0], [1.0, 1.0], [0.0, 0.96], False)
    assert sample(LOGITS.expand(2, -1), batch).token_ids.tolist() == [1, 0]


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
