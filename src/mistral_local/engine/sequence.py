"""One prompt and its answer, as token ids."""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from torch import Tensor

from mistral_local.engine.ngram import NgramProposer
from mistral_local.engine.step_plan import SampledToken
from mistral_local.kvcache.books import SequenceBlocks
from mistral_local.kvcache.prefix_hash import block_hashes
from mistral_local.sampling.grammar import GrammarState
from mistral_local.sampling.params import SamplingParams
from mistral_local.sampling.row import SamplingRow, SeenTokens


class Status(Enum):
    """Where a sequence is in its life."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


FinishReason = Literal["stop", "length", "aborted", "error"]


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one prompt while it is answered.

    Attributes:
        tokens: prompt and new token ids.
        num_prompt_tokens: how many of them came with the request.
        params: how tokens are chosen and when to end.
        grammar: how far the answer has come in the grammar of its params, if there is one.
        hash_root: stands for the weights in the hashes of its blocks.
        block_hashes: of the full blocks of its tokens, as far as needed yet.
        num_computed_tokens: tokens whose keys and values are in the cache.
        num_scheduled_tokens: these, and those that steps under way compute.
        num_awaited: tokens that steps under way choose.
        blocks: where its keys and values are; None while it waits.
        prompt_logprobs: of prompt tokens from the 2nd on, as far as computed, if asked for.
        logprobs: of new tokens, if asked for.
        top_logprobs: for each new token the ids that are scored beside it and their logprobs, if asked for.
        pooled: [dim] fp32 on the model's device, what pooling has collected so far; whole when the sequence has ended.
        num_cached_tokens: of the prompt, how many the cache knew when it was let in.
        finish_reason: why it ended: a stop token, a length limit, its caller, or an error.
        error: what went wrong, when finish_reason is "error".
        proposer: guesses tokens that come next; None when the engine does not speculate.
        arrived_at, scheduled_at, first_token_at, last_token_at: when it was queued, first ran, got its first token and
            its latest, in seconds of time.perf_counter().
    """

    tokens: list[int]
    num_prompt_tokens: int
    params: SamplingParams
    hash_root: bytes = b""
    block_hashes: list[bytes] = field(default_factory=list)
    num_computed_tokens: int = 0
    num_scheduled_tokens: int = 0
    num_awaited: int = 0
    pooled: Tensor | None = None
    num_cached_tokens: int = 0
    blocks: SequenceBlocks | None = None
    prompt_logprobs: list[float] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    status: Status = Status.WAITING
    finish_reason: FinishReason | None = None
    error: str | None = None
    arrived_at: float = field(default_factory=time.perf_counter)
    scheduled_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    proposer: NgramProposer | None = None
    grammar: GrammarState | None = field(init=False)
    _random: random.Random = field(init=False)
    _uniforms: deque[float] = field(init=False, default_factory=deque)
    _seen: SeenTokens | None = field(init=False)

    def __post_init__(self) -> None:
        # As text, because a number would lose its sign.
        self._random = random.Random(None if self.params.seed is None else str(self.params.seed))
        self.grammar = None if self.params.grammar is None else self.params.grammar.start()
        self._seen = SeenTokens(self.tokens) if self.params.has_penalties else None

    @property
    def new_tokens(self) -> list[int]:
        """The answer so far."""
        return self.tokens[self.num_prompt_tokens :]

    @property
    def num_new_tokens(self) -> int:
        return len(self.tokens) - self.num_prompt_tokens

    @property
    def num_known_tokens(self) -> int:
        """Tokens that it holds or awaits."""
        return len(self.tokens) + self.num_awaited

    @property
    def needs_each_token(self) -> bool:
        """Whether its next step can be planned only when it knows what came of the last one."""
        params = self.params
        return (
            self.grammar is not None
            or self.proposer is not None
            or params.has_penalties
            or params.prompt_logprobs
            or params.pooling is not None
        )

    @property
    def is_finished(self) -> bool:
        return self.status is Status.FINISHED

    @property
    def may_share(self) -> bool:
        """Whether keys of an earlier sequence will do: scoring and pooling a prompt need its every hidden state."""
        return not (self.params.prompt_logprobs or self.params.pooling == "mean")

    @property
    def max_len(self) -> int:
        """Most tokens that the sequence may come to hold."""
        return self.num_prompt_tokens + self.params.max_tokens

    def extend_hashes(self, block_size: int) -> None:
        """Hash the blocks that have become full since the last call."""
        self.block_hashes = block_hashes(self.tokens, block_size, root=self.hash_root, known=self.block_hashes)

    def sampling_row(self, num_ahead: int = 0) -> SamplingRow:
        """What decides the next token, or the one `num_ahead` tokens later.

        The sequence draws one random number per new token, whatever runs beside and however often it asks.
        """
        if self.params.temperature == 0:
            return SamplingRow(self.params, 0.0, self.num_new_tokens + num_ahead, self._seen, self.grammar)
        while len(self._uniforms) <= num_ahead:
            self._uniforms.append(self._random.random())
        uniform = self._uniforms[num_ahead]
        return SamplingRow(self.params, uniform, self.num_new_tokens + num_ahead, self._seen, self.grammar)

    def propose(self, most: int) -> tuple[int, ...]:
        """At most so many guesses of the tokens that follow the last one."""
        if self.proposer is None or self.params.has_penalties or self.grammar is not None:
            return ()
        return self.proposer.propose(self.tokens, min(most, self.max_len - len(self.tokens) - 1))

    def pool(self, hidden: Tensor, *, is_first: bool, is_last: bool) -> None:
        """Collect what was pooled [dim] of a part of the prompt; the last part makes it whole and ends the sequence."""
        is_sum = self.params.pooling == "mean"
        self.pooled = hidden if self.pooled is None or is_first or not is_sum else self.pooled + hidden
        if is_last:
            self.pooled = self.pooled / self.num_prompt_tokens if is_sum else self.pooled
            self.finish("stop")

    def append(self, choice: SampledToken) -> None:
        """Take the next token, or end the sequence by it."""
        self.last_token_at = time.perf_counter()
        self.first_token_at = self.first_token_at or self.last_token_at
        if self._uniforms:
            self._uniforms.popleft()
        if choice.token in self.params.stop_token_ids:
            self.finish("stop")
            return
        self.tokens.append(choice.token)
        if self._seen is not None:
            self._seen.add(choice.token)
        if self.params.logprobs:
            self.logprobs.append(choice.logprob)
            self.top_logprobs.append(choice.top_logprobs[: self.params.num_scored_beside])
        if self.grammar is not None:
            self.grammar.advance(choice.token)
            if self.grammar.error is not None:
                self.finish("error", f"grammar: {self.grammar.error}")
                return
        if self.grammar is not None and self.grammar.is_complete:
            self.finish("stop")
        elif self.num_new_tokens >= self.params.max_tokens:
            self.finish("length")

    def finish(self, reason: FinishReason, error: str | None = None) -> None:
        """End the sequence; its blocks are given back by the scheduler."""
        self.status, self.finish_reason, self.error = Status.FINISHED, reason, error
