"""What a request gets does not depend on what runs beside it, how it is chunked, cached or preempted."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint

from mistral_local.args import MoeArgs
from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence, Status
from mistral_local.errors import UsageError
from mistral_local.kvcache.storage import kv_bytes_per_token
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

VOCAB = 97
BF16 = {"dim": 64, "hidden_dim": 96, "head_dim": 32, "n_heads": 4, "n_kv_heads": 2}


@dataclass
class Request:
    prompt: list[int]
    params: SamplingParams
    abort_after: int | None = None


def random_requests(count: int, *, seed: int, longest: int = 40) -> list[Request]:
    """Mixed lengths and parameters; many share a beginning; some are given up."""
    rng = random.Random(seed)
    beginnings = [rng.choices(range(VOCAB), k=longest // 2) for _ in range(3)]
    requests = []
    for index in range(count):
        shared = rng.choice(beginnings)[: rng.randint(0, longest // 2)] if rng.random() < 0.5 else []
        prompt = shared + rng.choices(range(VOCAB), k=rng.randint(1, longest // 2))
        params = SamplingParams(
            max_tokens=rng.randint(3, 24),
            temperature=rng.choice([0.0, 0.0, 0.7, 1.3]),
            top_p=rng.choice([1.0, 0.8]),
            top_k=rng.choice([0, 5]),
            seed=index,
            logprobs=True,
            prompt_logprobs=rng.random() < 0.2,
            repetition_penalty=rng.choice([1.0, 1.2]),
            stop_token_ids=frozenset(rng.sample(range(VOCAB), 3)),
            min_tokens=rng.choice([0, 3]),
        )
        requests.append(Request(prompt, params, rng.randint(0, 10) if rng.random() < 0.15 else None))
    return requests


def make_engine(model: Transformer, *, num_blocks: int = 60, **config: int | bool) -> Engine:
    args, block_size = model.args, 4
    token_bytes = kv_bytes_per_token(
        n_layers=args.n_layers, n_kv_heads=args.n_kv_heads, head_dim=args.head_dim, dtype=model.dtype
    )
    limits = {"max_num_seqs": 6, "max_context": 80, "kv_memory_bytes": num_blocks * block_size * token_bytes}
    return Engine(model, EngineConfig(block_size=block_size, **(limits | config)))  # type: ignore[arg-type]


def serve(engine: Engine, requests: list[Request]) -> tuple[list[Sequence], int]:
    """All requests with random arrivals; also how often one was preempted."""
    rng = random.Random(1)
    pending = list(zip(requests, range(len(requests)), strict=True))
    sequences: dict[int, Sequence] = {}
    num_preempted = 0
    while pending or engine.has_work:
        for request, index in pending[: rng.randint(0, 3)]:
            sequences[index] = engine.add(request.prompt, request.params)
            pending.pop(0)
        running = list(engine.scheduler.running)
        engine.step()
        num_preempted += sum(sequence.status is Status.WAITING for sequence in running)
        for index, sequence in sequences.items():
            limit = requests[index].abort_after
            if limit is not None and sequence.num_new_tokens >= limit:
                engine.abort(sequence)
    assert engine.pool.num_free == engine.pool.num_blocks
    return [sequences[index] for index in range(len(requests))], num_preempted


def alone(model: Transformer, request: Request, **config: int | bool) -> Sequence:
    return make_engine(model, max_num_seqs=1, **config).generate([request.prompt], [request.params])[0]


def compare(found: Sequence, expected: Sequence, tolerance: float) -> None:
    length = found.num_new_tokens if found.finish_reason == "aborted" else expected.num_new_tokens
    assert found.new_tokens == expected.new_tokens[:length]
    pairs = [(found.logprobs, expected.logprobs[:length]), (found.prompt_logprobs, expected.prompt_logprobs)]
    for ours, theirs in pairs[: 1 if found.finish_reason == "aborted" else 2]:
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_blocks": 22},
        {"max_num_batched_tokens": 7},
        {"max_prefill_chunk": 3, "max_guesses": 4},
        {"num_blocks": 24, "max_num_batched_tokens": 5, "max_guesses": 4},
        {"overlap": True},
        {"overlap": True, "num_blocks": 22, "max_prefill_chunk": 3},
    ],
    ids=lambda config: ",".join(config) or "roomy",
)
def test_two_hundred_mixed_requests_each_get_what_they_get_alone(tmp_path: Path, config: dict[str, int]) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, vocab_size=VOCAB, sliding_window=[None, 9]))
    requests = random_requests(200, seed=7)
    sequences, num_preempted = serve(make_engine(model, **config), requests)
    assert num_preempted > 0 or "num_blocks" not in config
    # Short of memory, what the window has left is soon written over, and a beginning is no longer known to every layer.
    assert sum(sequence.num_cached_tokens > 0 for sequence in sequences) > (5 if "num_blocks" in config else 20)
    for request, sequence in zip(requests, sequences, strict=True):
        assert sequence.is_finished
        compare(sequence, alone(model, request), 1e-5)


def test_layers_that_all_slide_hold_no_more_than_their_window(tmp_path: Path) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, vocab_size=VOCAB, sliding_window=[9, 5]))
    requests = random_requests(60, seed=8)
    sequences, _ = serve(make_engine(model, max_num_batched_tokens=8, num_blocks=14), requests)
    for request, sequence in zip(requests, sequences, strict=True):
        compare(sequence, alone(model, request, num_blocks=40), 1e-5)
    engine = make_engine(model, max_num_batched_tokens=8, num_blocks=6, max_num_seqs=1)
    assert engine.max_context == 80
    sequence = engine.add(list(range(60)), SamplingParams(max_tokens=20))
    most = 0
    while engine.has_work:
        engine.step()
        most = max(most, engine.pool.num_blocks - engine.pool.num_free)
    assert sequence.num_new_tokens == 20
    assert most <= 5  # 9 + 7 tokens, and a block cut at either end


def test_planning_ahead_waits_for_what_a_window_is_about_to_give_back(tmp_path: Path) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, vocab_size=VOCAB, sliding_window=6))
    request = Request(list(range(27)), SamplingParams(max_tokens=15))
    config = {"max_num_batched_tokens": 6, "num_blocks": 4, "max_num_seqs": 1}
    found = make_engine(model, overlap=True, **config).generate([request.prompt], [request.params])[0]
    compare(found, alone(model, request), 1e-5)


@pytest.mark.parametrize("moe", [None, MoeArgs(num_experts=4, num_experts_per_tok=2)])
@pytest.mark.parametrize("config", [{}, {"num_blocks": 22}, {"max_prefill_chunk": 3, "max_guesses": 4}], ids=str)
def test_deterministic_mode_gives_the_same_bits_in_bf16(
    tmp_path: Path, config: dict[str, int], moe: MoeArgs | None
) -> None:
    folder = write_checkpoint(
        tmp_path, vocab_size=VOCAB, sliding_window=[None, 9], dtype=torch.bfloat16, moe=moe, **BF16
    )
    model = Transformer.from_folder(folder)
    if reasons := model.reasons_against_batch_invariance():
        pytest.skip(reasons[0])
    requests = random_requests(60, seed=9)
    sequences, _ = serve(make_engine(model, deterministic=True, **config), requests)
    for request, sequence in zip(requests, sequences, strict=True):
        compare(sequence, alone(model, request, deterministic=True), 0.0)


def test_deterministic_mode_is_refused_where_it_cannot_be_had(tmp_path: Path) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path))
    with pytest.raises(UsageError, match=r"^deterministic mode cannot be had: compiled kernels serve bfloat16"):
        make_engine(model, deterministic=True)
