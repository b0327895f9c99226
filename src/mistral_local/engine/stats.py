"""What an engine has done and is doing, in numbers."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from mistral_local.engine.sequence import FinishReason, Sequence

WINDOW_S = 10.0
"""Rates and times are of the last so many seconds."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot.

    Attributes:
        num_running, num_waiting: sequences.
        kv_use: share of the KV cache that is taken, 0 to 1.
        num_finished: sequences that have ended, by reason, since the engine began.
        prompt_tokens, cached_tokens, new_tokens: of prompts computed, of prompts found in the KV cache, and chosen
            since the engine began.
        guessed_tokens, right_guesses: how many tokens were guessed by speculation, and how many of them came true.
        new_tokens_per_s: over the last ten seconds.
        time_to_first_token_s, queue_time_s: mean over the sequences that had their first token in the last ten
            seconds, from their arrival and until their first step; None if there were none.
    """

    num_running: int
    num_waiting: int
    kv_use: float
    num_finished: dict[FinishReason, int]
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    guessed_tokens: int
    right_guesses: int
    new_tokens_per_s: float
    time_to_first_token_s: float | None
    queue_time_s: float | None

    @property
    def cache_hit_rate(self) -> float:
        """Share of the prompt tokens that the KV cache knew."""
        total = self.prompt_tokens + self.cached_tokens
        return self.cached_tokens / total if total else 0.0


@dataclass(slots=True)
class StatsRecorder:
    """Collects what the engine tells it; one thread writes."""

    num_finished: dict[FinishReason, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    new_tokens: int = 0
    guessed_tokens: int = 0
    right_guesses: int = 0
    _started_at: float = field(default_factory=time.perf_counter)
    _tokens: deque[tuple[float, int]] = field(default_factory=deque)
    _firsts: deque[tuple[float, float, float]] = field(default_factory=deque)

    def step(
        self, *, num_prompt_tokens: int, num_new_tokens: int, num_guessed_tokens: int, num_right_guesses: int
    ) -> None:
        """Note the tokens of one step."""
        self.prompt_tokens += num_prompt_tokens
        self.guessed_tokens += num_guessed_tokens
        self.right_guesses += num_right_guesses
        self.new_tokens += num_new_tokens
        self._tokens.append((time.perf_counter(), num_new_tokens))
        self._forget()

    def first_token(self, sequence: Sequence) -> None:
        """Note that a sequence has got its first token."""
        if sequence.scheduled_at is None or sequence.first_token_at is None:
            return
        now, arrived = sequence.first_token_at, sequence.arrived_at
        self._firsts.append((now, now - arrived, sequence.scheduled_at - arrived))
        self.cached_tokens += sequence.num_cached_tokens

    def finished(self, sequences: Iterable[Sequence]) -> None:
        """Note sequences that have ended."""
        for sequence in sequences:
            if sequence.finish_reason is not None:
                self.num_finished[sequence.finish_reason] = self.num_finished.get(sequence.finish_reason, 0) + 1

    def snapshot(self, *, num_running: int, num_waiting: int, kv_use: float) -> EngineStats:
        """The numbers of now."""
        self._forget()
        seconds = min(WINDOW_S, time.perf_counter() - self._started_at)
        return EngineStats(
            num_running=num_running,
            num_waiting=num_waiting,
            kv_use=kv_use,
            num_finished=dict(self.num_finished),
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            new_tokens=self.new_tokens,
            guessed_tokens=self.guessed_tokens,
            right_guesses=self.right_guesses,
            new_tokens_per_s=sum(count for _, count in self._tokens) / seconds if seconds > 0 else 0.0,
            time_to_first_token_s=fmean(first[1] for first in self._firsts) if self._firsts else None,
            queue_time_s=fmean(first[2] for first in self._firsts) if self._firsts else None,
        )

    def _forget(self) -> None:
        """Drop what is older than the window."""
        limit = time.perf_counter() - WINDOW_S
        while self._tokens and self._tokens[0][0] < limit:
            self._tokens.popleft()
        while self._firsts and self._firsts[0][0] < limit:
            self._firsts.popleft()
