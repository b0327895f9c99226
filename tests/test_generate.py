"""generate(): the meaning that scripts of mistral_inference rely on, held to the plain recomputation."""

import gc
import random
import weakref
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from oracle import one_file_ref

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.errors import EmptyPromptError, OutOfMemoryError, RequestError, TokenIdError
from mistral_local.generate import generate
from mistral_local.transformer import Transformer

VOCAB = 307
KINDS = {
    "dense": {},
    "mixture": {"moe": MoeArgs(num_experts=4, num_experts_per_tok=2)},
    "window": {"sliding_window": 11},
    "windows per layer": {"sliding_window": [None, 5]},
    "tied": {"tied": True},
}
PROMPTS = [random.Random(0).choices(range(VOCAB), k=length) for length in (23, 1, 9, 2, 40)]


class Pair:
    """A checkpoint under mistral_local and under the oracle."""

    def __init__(self, folder: Path, **kind: object) -> None:
        write_checkpoint(folder, vocab_size=VOCAB, **kind)  # type: ignore[arg-type]
        self.model = Transformer.from_folder(folder, max_batch_size=3)
        self.oracle = one_file_ref.Transformer.from_folder(folder)

    def expected(self, prompt: list[int], max_tokens: int, eos_id: int | None = None) -> tuple[list[int], list[float]]:
        return one_file_ref.generate(self.oracle, prompt, max_tokens=max_tokens, eos_id=eos_id)


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("checkpoint"), **KINDS[request.param])


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("dense"))


def assert_close(logprobs: list[float], expected: list[float]) -> None:
    assert torch.allclose(torch.tensor(logprobs), torch.tensor(expected), atol=1e-4)


@pytest.mark.parametrize("chunk_size", [None, 1, 8])
def test_a_ragged_batch_equals_the_oracle_row_by_row(pair: Pair, chunk_size: int | None) -> None:
    tokens, logprobs = generate(PROMPTS, pair.model, max_tokens=30, temperature=0.0, chunk_size=chunk_size)
    for row, prompt in enumerate(PROMPTS):
        expected_tokens, expected_logprobs = pair.expected(prompt, 30)
        assert tokens[row] == expected_tokens
        assert len(logprobs[row]) == len(prompt) - 1 + 30
        assert_close(logprobs[row], expected_logprobs)


@pytest.mark.parametrize("chunk_size", [None, 6])
def test_logprobs_while_decoding_equal_those_of_one_prefill_over_the_whole(pair: Pair, chunk_size: int | None) -> None:
    tokens, decoded = generate(PROMPTS, pair.model, max_tokens=12, temperature=0.7, seed=3)
    whole = [prompt + answer for prompt, answer in zip(PROMPTS, tokens, strict=True)]
    no_tokens, prefilled = generate(whole, pair.model, max_tokens=0, temperature=0.0, chunk_size=chunk_size)
    assert no_tokens == []
    for row in range(len(PROMPTS)):
        assert_close(decoded[row], prefilled[row])


def test_each_row_ends_before_its_own_eos_and_may_be_empty(dense: Pair) -> None:
    free, _ = generate(PROMPTS, dense.model, max_tokens=30, temperature=0.0)
    eos_id = free[1][0]  # the second row ends at once
    tokens, logprobs = generate(PROMPTS, dense.model, max_tokens=30, temperature=0.0, eos_id=eos_id)
    assert tokens[1] == []
    for row, prompt in enumerate(PROMPTS):
        cut = free[row].index(eos_id) if eos_id in free[row] else 30
        assert tokens[row] == free[row][:cut]
        assert len(logprobs[row]) == len(prompt) - 1 + cut


def test_prompt_logprobs_can_be_turned_off(dense: Pair) -> None:
    with_prompt = generate(PROMPTS, dense.model, max_tokens=5, temperature=0.0)
    without = generate(PROMPTS, dense.model, max_tokens=5, temperature=0.0, prompt_logprobs=False)
    assert without[0] == with_prompt[0]
    assert [len(row) for row in without[1]] == [5] * len(PROMPTS)
    for row in range(len(PROMPTS)):
        assert_close(without[1][row], with_prompt[1][row][-5:])


def test_a_seed_repeats_the_sampling_and_another_changes_it(dense: Pair) -> None:
    def sample(seed: int | None) -> list[list[int]]:
        return generate(PROMPTS, dense.model, max_tokens=20, temperature=1.5, top_p=1.0, seed=seed)[0]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert sample(None) != sample(None)


def test_rows_with_the_same_prompt_are_sampled_apart(dense: Pair) -> None:
    tokens, _ = generate([PROMPTS[0]] * 3, dense.model, max_tokens=20, temperature=1.5, top_p=1.0, seed=1)
    assert len({tuple(row) for row in tokens}) == 3


def test_a_sampled_row_does_not_depend_on_its_batch(dense: Pair) -> None:
    together, _ = generate(PROMPTS, dense.model, max_tokens=20, temperature=1.0, seed=5)
    alone, _ = generate(PROMPTS[:1], dense.model, max_tokens=20, temperature=1.0, seed=5, chunk_size=3)
    assert together[0] == alone[0]


def test_a_tiny_nucleus_is_greedy(dense: Pair) -> None:
    greedy, _ = generate(PROMPTS, dense.model, max_tokens=10, temperature=0.0)
    sampled, _ = generate(PROMPTS, dense.model, max_tokens=10, temperature=1.0, top_p=1e-6, seed=1)
    assert sampled == greedy


def test_forward_equals_the_oracle_and_keeps_sequences_apart(pair: Pair) -> None:
    lengths = [len(prompt) for prompt in PROMPTS]
    flat = torch.tensor([token for prompt in PROMPTS for token in prompt])
    logits = pair.model.forward(flat, lengths)
    with torch.inference_mode():
        expected = torch.cat([pair.oracle(torch.tensor([prompt]))[0] for prompt in PROMPTS])
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 1e-4


def test_a_model_of_random_weights_generates() -> None:
    args = TransformerArgs(
        dim=32, n_layers=2, head_dim=8, hidden_dim=48, n_heads=4, n_kv_heads=2, norm_eps=1e-5, vocab_size=VOCAB,
        max_batch_size=2,
    )  # fmt: skip
    model = Transformer(args).to("cpu", dtype=torch.bfloat16)
    tokens, logprobs = generate(PROMPTS, model, max_tokens=4, temperature=0.0)
    assert [len(row) for row in tokens] == [4] * len(PROMPTS)
    assert all(torch.isfinite(torch.tensor(row)).all() for row in logprobs)


def test_a_model_that_changed_its_dtype_generates_again(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    first, _ = generate(PROMPTS, pair.model, max_tokens=4, temperature=0.0)
    second, _ = generate(PROMPTS, pair.model.to(torch.float64), max_tokens=4, temperature=0.0)
    assert first == second


def test_a_call_that_found_too_little_memory_succeeds_when_there_is_more(
    dense: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> list[list[int]]:
        return generate(PROMPTS[:2], dense.model, max_tokens=300, temperature=0.0)[0]

    dense.model.kept_kv = None
    with monkeypatch.context() as patch:
        patch.setattr("mistral_local.engine.kv_memory.free_bytes", lambda device: 100_000)
        with pytest.raises(OutOfMemoryError, match="need a KV cache of 323 tokens"):
            answer()
    assert [len(row) for row in answer()] == [300, 300]
    kv = dense.model.kept_kv
    answer()
    assert dense.model.kept_kv is kv


def test_a_smaller_call_runs_on_the_cache_of_a_larger_one(dense: Pair) -> None:
    generate(PROMPTS[:3], dense.model, max_tokens=30, temperature=0.0)
    kv = dense.model.kept_kv
    tokens, _ = generate(PROMPTS[:1], dense.model, max_tokens=5, temperature=0.0)
    assert dense.model.kept_kv is kv
    assert tokens == [dense.expected(PROMPTS[0], 5)[0]]


def test_a_model_that_is_dropped_goes_at_once(tmp_path: Path) -> None:
    model = Pair(tmp_path).model
    generate(PROMPTS[:1], model, max_tokens=3, temperature=0.0)
    alive = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert alive() is None
    finally:
        gc.enable()


def test_negative_seeds_are_seeds_of_their_own(dense: Pair) -> None:
    rows = [
        generate(PROMPTS[:2], dense.model, max_tokens=12, temperature=1.5, top_p=1.0, seed=seed)[0]
        for seed in (1, -1, 1)
    ]
    assert rows[0] == rows[2] != rows[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 2.5}, "max_tokens: expected an integer"),
        ({"seed": 1.5}, "seed: expected an integer"),
        ({"chunk_size": True}, "chunk_size: expected an integer"),
        ({"encoded_prompts": [[1.0]]}, "encoded_prompts: expected lists of token ids, row 0"),
        ({"encoded_prompts": [[1], torch.tensor([1])]}, "encoded_prompts: expected lists of token ids, row 1"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused_by_name(dense: Pair, options: dict[str, object], message: str) -> None:
    call = {"encoded_prompts": [[1]], "model": dense.model, "max_tokens": 3, "temperature": 0.0} | options
    with pytest.raises(RequestError, match=message):
        generate(**call)  # type: ignore[arg-type]


def test_no_prompts_give_no_rows(dense: Pair) -> None:
    assert generate([], dense.model, max_tokens=3, temperature=0.0) == ([], [])


def test_empty_images_count_as_none(dense: Pair) -> None:
    with_empty, _ = generate(PROMPTS[:1], dense.model, [[]], max_tokens=3, temperature=0.0, chunk_size=2)
    assert with_empty == generate(PROMPTS[:1], dense.model, max_tokens=3, temperature=0.0)[0]
    with pytest.raises(RequestError, match="no vision encoder"):
        generate(PROMPTS[:1], dense.model, [["an image"]], max_tokens=3, temperature=0.0)


def test_an_empty_prompt_is_refused_and_the_others_leave_nothing_behind(dense: Pair) -> None:
    with pytest.raises(EmptyPromptError, match="the prompt is empty"):
        generate([PROMPTS[0], []], dense.model, max_tokens=3, temperature=0.0)
    assert generate(PROMPTS[:1], dense.model, max_tokens=3, temperature=0.0)[0] == [dense.expected(PROMPTS[0], 3)[0]]


@pytest.mark.parametrize("token", [-1, VOCAB, 10**9])
def test_token_ids_outside_the_vocabulary_are_refused(dense: Pair, token: int) -> None:
    with pytest.raises(TokenIdError, match=f"token id {token} is outside the vocabulary of {VOCAB}"):
        generate([[1, token]], dense.model, max_tokens=3, temperature=0.0)
    with pytest.raises(TokenIdError):
        dense.model.forward(torch.tensor([1, token]), [2])


def test_more_than_the_context_is_refused_with_both_numbers(tmp_path: Path) -> None:
    pair = Pair(tmp_path, max_seq_len=32)
    with pytest.raises(RequestError, match="need 33 tokens, the context of this model has 32"):
        generate([PROMPTS[0]], pair.model, max_tokens=10, temperature=0.0)
    assert len(generate([PROMPTS[0]], pair.model, max_tokens=9, temperature=0.0)[0][0]) == 9


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"chunk_size": 0}, "chunk_size"),
    ],
)
def test_options_out_of_range_are_refused_by_name(dense: Pair, option: dict[str, float], message: str) -> None:
    options = {"max_tokens": 3, "temperature": 0.0} | option
    with pytest.raises(RequestError, match=message):
        generate(PROMPTS, dense.model, **options)  # type: ignore[arg-type]
