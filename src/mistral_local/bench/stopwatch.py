"""Runs of random prompts on an engine, and how long they take."""

import random
import time

from mistral_local.bench.ceilings import now
from mistral_local.config import EngineConfig, KVDtype
from mistral_local.engine.engine import Engine
from mistral_local.engine.kv_memory import blocks_of_one
from mistral_local.engine.roads import block_size_for
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import OutOfMemoryError
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams

SMALLEST_ID = 5
"""Ids below are control tokens in most vocabularies."""

MAX_PREFILL_TOKENS = 8192
"""Of one step: more would gain nothing and take memory for activations."""


class TimeLimit:
    """Nothing is begun after so many seconds; None is no limit."""

    def __init__(self, seconds: float | None = None) -> None:
        self._end = float("inf") if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raise NoTimeError after the end."""
        if time.monotonic() >= self._end:
            raise NoTimeError


class NoTimeError(Exception):
    """A measurement that would be over too late."""


NO_LIMIT = TimeLimit()


class Stopwatch:
    """Runs prompts of random tokens, never the same twice, on one engine.

    Prompts are computed in as few steps as MAX_PREFILL_TOKENS allows; of several, sequences that have their first token
    decode along until all have it.
    """

    def __init__(
        self, model: Transformer, *, batch_size: int, prompt_tokens: int, new_tokens: int, kv_dtype: KVDtype = "auto"
    ) -> None:
        """Make the engine.

        Raises:
            OutOfMemoryError: if it has no room for all sequences at the same time.
        """
        self.model, self.batch_size = model, batch_size
        self.prompt_tokens, self.new_tokens, self.kv_dtype = prompt_tokens, new_tokens, kv_dtype
        self._random = random.Random(0)
        num_tokens = batch_size * prompt_tokens
        budget = min(num_tokens, max(MAX_PREFILL_TOKENS, 2 * batch_size))
        num_steps = 1 if num_tokens <= budget else -(-num_tokens // (budget - batch_size))
        self._max_tokens = new_tokens + num_steps - 1
        config = EngineConfig(
            max_num_seqs=batch_size,
            max_context=prompt_tokens + self._max_tokens + 1,
            max_num_batched_tokens=budget,
            block_size=block_size_for(model, kv_dtype),
            kv_dtype=kv_dtype,
        )
        self.engine = Engine(model, config)
        needed = batch_size * blocks_of_one(model, config, prompt_tokens + self._max_tokens)
        if needed > self.engine.pool.num_blocks:
            raise OutOfMemoryError(
                f"the KV cache needs {needed} blocks of {config.block_size} tokens, "
                f"there is memory for {self.engine.pool.num_blocks}"
            )

    def begin(self) -> list[Sequence]:
        """Add prompts and step until every sequence has its first token."""
        params = SamplingParams(max_tokens=self._max_tokens)
        vocab = range(SMALLEST_ID, self.model.args.vocab_size)
        prompts = [self._random.choices(vocab, k=self.prompt_tokens) for _ in range(self.batch_size)]
        sequences = [self.engine.add(prompt, params) for prompt in prompts]
        while not all(sequence.num_new_tokens for sequence in sequences):
            self.engine.step()
        return sequences

    def run(self) -> tuple[float, float]:
        """Seconds until every sequence has its first token, and from then until each has new_tokens - 1 more.

        Time is taken when tokens are known; a step that an engine has queued ahead is not waited for.
        """
        start = now(self.model.device)
        sequences = self.begin()
        first = time.perf_counter()
        wanted = [(sequence, sequence.num_new_tokens + self.new_tokens - 1) for sequence in sequences]
        while not all(sequence.is_finished or sequence.num_new_tokens >= number for sequence, number in wanted):
            self.engine.step()
        end = time.perf_counter()
        for sequence in sequences:
            self.engine.abort(sequence)
        return first - start, end - first

    def runs(self, repeats: int, limit: TimeLimit) -> list[tuple[float, float]]:
        """run() as often, after one that does not count, or as often as the limit allows.

        Raises:
            NoTimeError: if that is not even twice, where twice was wanted.
        """
        limit.check()
        self.run()
        done: list[tuple[float, float]] = []
        for _ in range(repeats):
            try:
                limit.check()
            except NoTimeError:
                if len(done) < 2:
                    raise
                break
            done.append(self.run())
        return done
