"""Many requests of mixed lengths: all at once, or arriving as a Poisson process."""

import random
import time
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

from mistral_local.args import TransformerArgs
from mistral_local.bench.stopwatch import SMALLEST_ID
from mistral_local.config import EngineConfig, KVDtype
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.kvcache.storage import KVCache
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams


@dataclass(frozen=True, slots=True)
class Request:
    """What one client asks for, and when.

    Attributes:
        prompt: random token ids.
        new_tokens: length of its answer; nothing ends it earlier.
        arrives_at: seconds after the start.
    """

    prompt: list[int]
    new_tokens: int
    arrives_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A seeded distribution of requests.

    Attributes:
        num_requests: how many.
        prompt_tokens, new_tokens: medians of the lengths, which are log-normal with a standard deviation of 0.6 in the
            logarithm, and at most four times the median.
        rate: arrivals per second; None lets all come at once.
        seed: the same seed, the same requests.
    """

    num_requests: int
    prompt_tokens: int
    new_tokens: int
    rate: float | None = None
    seed: int = 0

    @property
    def max_context(self) -> int:
        """Tokens of the longest request that can be drawn."""
        return 4 * (self.prompt_tokens + self.new_tokens)

    def draw(self, vocab_size: int) -> list[Request]:
        """The requests in order of arrival."""
        rng = random.Random(self.seed)
        requests, clock = [], 0.0
        for _ in range(self.num_requests):
            prompt = rng.choices(range(SMALLEST_ID, vocab_size), k=_length(rng, self.prompt_tokens))
            requests.append(Request(prompt, _length(rng, self.new_tokens), clock))
            clock += rng.expovariate(self.rate) if self.rate else 0.0
        return requests


@dataclass(slots=True)
class _Run:
    """A request that is being answered, and when each of its tokens came."""

    request: Request
    sequence: Sequence
    token_times: list[float] = field(default_factory=list)


def measure_load(
    model: Transformer, workload: Workload, *, max_num_seqs: int, max_guesses: int = 0, kv_dtype: KVDtype = "auto"
) -> dict[str, Any]:
    """Serve a workload on one engine, the client and the engine on one thread.

    Returns:
        Rates in tokens per second over the whole run; times in seconds: to the first token and between tokens, each as
        median, 90th and 99th percentile.
    """
    context = min(workload.max_context, model.args.context_length)
    config = EngineConfig(max_num_seqs=max_num_seqs, max_context=context, max_guesses=max_guesses, kv_dtype=kv_dtype)
    engine = Engine(model, config)
    engine.generate([[SMALLEST_ID] * 8] * 2, [SamplingParams(max_tokens=8)] * 2)  # what is done once is not measured
    waiting = list(workload.draw(model.args.vocab_size))
    start = time.perf_counter()
    runs: list[_Run] = []
    alive: list[_Run] = []
    num_steps = 0
    while waiting or alive:
        now = time.perf_counter() - start
        while waiting and waiting[0].arrives_at <= now:
            alive.append(_begin(engine, waiting.pop(0), context))
        if not alive:
            time.sleep(max(0.0, waiting[0].arrives_at - now))
            continue
        engine.step()
        num_steps += 1
        now = time.perf_counter() - start
        for run in alive:
            run.token_times += [now] * (run.sequence.num_new_tokens - len(run.token_times))
        runs += [run for run in alive if run.sequence.is_finished]
        alive = [run for run in alive if not run.sequence.is_finished]
    return _summary(runs, time.perf_counter() - start, num_steps)


def measure_bookkeeping(*, num_seqs: int, num_steps: int = 200) -> float:
    """Milliseconds per step that decodes `num_seqs` sequences on a model that returns at once; the median."""
    engine = Engine(_InstantModel(), EngineConfig(max_num_seqs=num_seqs, max_context=2048))
    params = SamplingParams(max_tokens=num_steps + 8)
    for row in range(num_seqs):
        engine.add([row % _InstantModel.VOCAB] * 512, params)
    while engine.num_waiting or any(s.num_new_tokens == 0 for s in engine.scheduler.running):
        engine.step()
    seconds = []
    for _ in range(num_steps):
        start = time.perf_counter()
        engine.step()
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds)


class _InstantModel(Transformer):
    """Costs nothing, so that what is left is the engine's own work."""

    VOCAB = 32

    def __init__(self) -> None:
        super().__init__(
            TransformerArgs(
                dim=8,
                n_layers=1,
                head_dim=8,
                hidden_dim=8,
                n_heads=1,
                n_kv_heads=1,
                norm_eps=1e-5,
                vocab_size=self.VOCAB,
            )
        )
        self._hidden = torch.zeros(1 << 16, 8)
        self._logits = torch.randn(1 << 10, self.VOCAB)

    def hidden(self, batch: Any, cache: KVCache | None) -> Tensor:
        return self._hidden[: len(batch.input_ids)]

    def logits(self, hidden: Tensor) -> Tensor:
        return self._logits[: len(hidden)]


def _begin(engine: Engine, request: Request, context: int) -> _Run:
    prompt = request.prompt[: context // 2]
    params = SamplingParams(max_tokens=min(request.new_tokens, context - len(prompt) - 1))
    return _Run(request, engine.add(prompt, params))


def _length(rng: random.Random, middle: int) -> int:
    return max(1, min(4 * middle, round(middle * rng.lognormvariate(0.0, 0.6))))


def _summary(runs: list[_Run], seconds: float, num_steps: int) -> dict[str, Any]:
    firsts = [run.token_times[0] - run.request.arrives_at for run in runs]
    gaps = [after - before for run in runs for before, after in zip(run.token_times, run.token_times[1:], strict=False)]
    num_prompt = sum(run.sequence.num_prompt_tokens for run in runs)
    num_new = sum(run.sequence.num_new_tokens for run in runs)
    return {
        "requests": len(runs),
        "seconds": seconds,
        "steps": num_steps,
        "prompt_tokens": num_prompt,
        "new_tokens": num_new,
        "prompt_tokens_per_s": num_prompt / seconds,
        "new_tokens_per_s": num_new / seconds,
        "time_to_first_token_s": _percentiles(firsts),
        "between_tokens_s": _percentiles(gaps),
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        only = values[0] if values else 0.0
        return {"p50": only, "p90": only, "p99": only}
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]}
