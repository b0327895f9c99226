"""A server beside its engine alone: what HTTP, JSON, events and detokenising add."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, TypeVar

from mistral_local.bench.http_client import Client
from mistral_local.config import EngineConfig
from mistral_local.engine.engine import Engine
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams

T = TypeVar("T")

WORDS = ("river", "stone", "seven", "green", "window", "paper", "early", "north")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLoad:
    """What is asked of both.

    Attributes:
        streams: answers that are written at the same time.
        prompt_words: of each prompt.
        new_tokens: of each answer; nothing ends it earlier.
        rounds: how often; every figure is a median.
        firsts: first tokens that are waited for, one at a time.
    """

    streams: int
    prompt_words: int
    new_tokens: int
    rounds: int
    firsts: int

    @property
    def max_context(self) -> int:
        """Tokens that any of the requests needs at most: a word is no more than four in the vocabularies at hand."""
        return 4 * self.prompt_words + self.new_tokens + 64

    def bodies(self, count: int, rng: random.Random, *, new_tokens: int) -> list[dict[str, Any]]:
        """Chats that no cache knows."""
        return [
            {
                "messages": [{"role": "user", "content": " ".join(rng.choices(WORDS, k=self.prompt_words))}],
                "max_tokens": new_tokens,
                "ignore_eos": True,
                "temperature": 0,
            }
            for _ in range(count)
        ]


@dataclass(frozen=True, slots=True)
class Run:
    """One round of one side.

    Attributes:
        cpu_s: CPU time of its process; None if unknown.
        loop_cpu_s: of the event loop's thread in it.
    """

    new_tokens: int
    seconds: float
    cpu_s: float | None = None
    loop_cpu_s: float | None = None

    @property
    def tokens_per_s(self) -> float:
        return self.new_tokens / self.seconds


def measure_server(client: Client, load: HttpLoad, note: Callable[[str], None]) -> dict[str, Any]:
    """Figures of a server alone."""
    rng = random.Random(0)
    _ask(client, load.bodies(load.streams, rng, new_tokens=8))
    note("streams")
    runs = [_ask(client, load.bodies(load.streams, rng, new_tokens=load.new_tokens)) for _ in range(load.rounds)]
    note("first tokens")
    firsts = [_first_of(client, load.bodies(1, rng, new_tokens=1)[0]) for _ in range(load.firsts)]
    return {
        "tokens_per_s": median(run.tokens_per_s for run in runs),
        "first_token_ms": 1000 * median(firsts),
        "load_average": os.getloadavg(),
    }


def measure_overhead(model: Transformer, client: Client, load: HttpLoad, note: Callable[[str], None]) -> dict[str, Any]:
    """Figures of a server and of the same model on an engine in this process, in turns.

    Both get the same prompts and write equally long greedy answers; the engine gets them as token ids.

    Returns:
        Rates in tokens per second; the server's overhead as a share of the engine's rate; CPU time of the server's
        process per token in microseconds, beside the engine's and for the event loop's thread alone; time to a first
        token at idle in milliseconds.
    """
    rng = random.Random(0)
    engine = Engine(model, EngineConfig(max_num_seqs=load.streams, max_context=load.max_context))
    warm = load.bodies(load.streams, rng, new_tokens=8)
    _ask(client, warm)
    _compute(engine, [client.tokens_of(body) for body in warm], 8)
    pairs: list[tuple[Run, Run]] = []
    for number in range(load.rounds):
        note(f"streams, round {number + 1}")
        bodies = load.bodies(load.streams, rng, new_tokens=load.new_tokens)
        prompts = [client.tokens_of(body) for body in bodies]
        pairs.append(
            _in_turns(number, partial(_compute, engine, prompts, load.new_tokens), partial(_ask, client, bodies))
        )
    note("first tokens")
    firsts: list[tuple[float, float]] = []
    for number in range(load.firsts):
        (body,) = load.bodies(1, rng, new_tokens=1)
        prompt = client.tokens_of(body)
        firsts.append(_in_turns(number, partial(_first_alone, engine, prompt), partial(_first_of, client, body)))
    return {
        "engine_tokens_per_s": median(alone.tokens_per_s for alone, _ in pairs),
        "server_tokens_per_s": median(served.tokens_per_s for _, served in pairs),
        "overhead": median(1 - served.tokens_per_s / alone.tokens_per_s for alone, served in pairs),
        "overheads": [1 - served.tokens_per_s / alone.tokens_per_s for alone, served in pairs],
        "engine_cpu_us_per_token": _per_token([alone.cpu_s for alone, _ in pairs], pairs),
        "server_cpu_us_per_token": _per_token([served.cpu_s for _, served in pairs], pairs),
        "loop_cpu_us_per_token": _per_token([served.loop_cpu_s for _, served in pairs], pairs),
        "engine_first_token_ms": 1000 * median(alone for alone, _ in firsts),
        "server_first_token_ms": 1000 * median(served for _, served in firsts),
        "added_first_token_ms": 1000 * median(served - alone for alone, served in firsts),
        "load_average": os.getloadavg(),
    }


def _in_turns(number: int, first: Callable[[], T], second: Callable[[], T]) -> tuple[T, T]:
    """Both results; who begins changes from round to round."""
    if number % 2:
        later = second()
        return first(), later
    return first(), second()


def _compute(engine: Engine, prompts: list[list[int]], new_tokens: int) -> Run:
    """Let the engine answer on this thread."""
    cpu, start = time.process_time(), time.perf_counter()
    engine.generate(prompts, [SamplingParams(max_tokens=new_tokens)] * len(prompts))
    seconds = time.perf_counter() - start
    return Run(len(prompts) * new_tokens, seconds, time.process_time() - cpu)


def _ask(client: Client, bodies: list[dict[str, Any]]) -> Run:
    """Let the server answer."""
    before, start = client.cpu_seconds(), time.perf_counter()
    answers = client.stream_all(bodies)
    seconds = max(answer.ended_at for answer in answers) - start
    after, num_tokens = client.cpu_seconds(), sum(answer.new_tokens for answer in answers)
    if before is None or after is None:
        return Run(num_tokens, seconds)
    return Run(num_tokens, seconds, after[0] - before[0], after[1] - before[1])


def _first_alone(engine: Engine, prompt: list[int]) -> float:
    """Seconds to the first token on this thread."""
    return _compute(engine, [prompt], 1).seconds


def _first_of(client: Client, body: dict[str, Any]) -> float:
    """Seconds to the first token of an answer that has only one."""
    start = time.perf_counter()
    (answer,) = client.stream_all([body])
    return answer.first_at - start


def _per_token(seconds: list[float | None], pairs: list[tuple[Run, Run]]) -> float | None:
    """Microseconds per token over all rounds."""
    known = [value for value in seconds if value is not None]
    num_tokens = sum(served.new_tokens for _, served in pairs)
    return 1e6 * sum(known) / num_tokens if len(known) == len(pairs) else None
