"""Which sequences take part in the next step, and with how many tokens."""

import time
from collections import deque
from dataclasses import dataclass, replace

from mistral_local.config import EngineConfig
from mistral_local.engine.sequence import Sequence, Status
from mistral_local.engine.step_plan import AWAITED
from mistral_local.kvcache.books import KVBooks, Prefix, SequenceBlocks

# A step of few rows takes as long as one of a single row; with more of them guesses would cost what they gain.
MAX_ROWS_WITH_GUESSES = 16


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One sequence's part in a step: its tokens start .. end - 1, and guesses of those that follow.

    It is made when the step begins and says nothing of what the sequence has become since.

    Attributes:
        blocks: where its keys and values go.
        token_ids: what the model computes, the guesses last.
        reaches_end: whether it ends with the last token of the sequence.
        guesses: what may come after its last token; computed in the same step, and kept as far as it is sampled.
    """

    sequence: Sequence
    blocks: SequenceBlocks
    start: int
    token_ids: list[int]
    reaches_end: bool
    guesses: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes."""
        return len(self.token_ids)

    @property
    def end(self) -> int:
        """Where the tokens end that are no guesses."""
        return self.start + len(self.token_ids) - len(self.guesses)

    @property
    def num_prompt_tokens(self) -> int:
        """How many of them came with the request."""
        return max(0, min(self.end, self.sequence.num_prompt_tokens) - self.start)

    @property
    def is_sampled(self) -> bool:
        """Whether the next token is chosen after this step."""
        return self.reaches_end and self.sequence.params.pooling is None

    @property
    def is_pooled(self) -> bool:
        """Whether this step ends a sequence whose hidden states are pooled."""
        return self.reaches_end and self.sequence.params.pooling is not None

    def scored(self) -> tuple[int, list[int]]:
        """Where scoring of the prompt begins in this part, and the tokens to score, which are not scored yet."""
        sequence = self.sequence
        first = max(self.start, len(sequence.prompt_logprobs))  # the hidden state of token i scores token i + 1
        last = min(self.end, sequence.num_prompt_tokens - 1)
        if not sequence.params.prompt_logprobs or first >= last:
            return 0, []
        return first, sequence.tokens[first + 1 : last + 1]


class Scheduler:
    """Lets every sequence's computed tokens catch up with its tokens, under one token budget per step.

    There are no prefill and decode phases: a running sequence usually lacks one token, a new one lacks its prompt, and
    both go into the same step.  Running sequences come first, then waiting ones in order of arrival.  When blocks run
    out, the newest running sequence gives its blocks back and is computed again later.
    """

    def __init__(self, config: EngineConfig, books: KVBooks, num_stages: int = 1) -> None:
        """Make a scheduler.

        Args:
            num_stages: steps that are under way together.  Of several, each gets an equal share of the sequences, and
                none that waits for a token of another.
        """
        self.config, self.books, self.num_stages = config, books, num_stages
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def schedule(self, *, is_ahead: bool = False) -> list[Scheduled]:
        """Choose the next step's tokens and give them blocks.

        Args:
            is_ahead: the step before is under way.  Nobody is preempted for it then: what that step is about to give back
                may be enough, so there is no step instead.
        """
        budget = self.config.max_num_batched_tokens
        most_parts = -(-min(len(self.running) + len(self.waiting), self.config.max_num_seqs) // self.num_stages)
        step: list[Scheduled] = []
        index = 0
        while index < len(self.running) and budget and len(step) < most_parts:
            sequence = self.running[index]
            num_missing = self._num_missing(sequence, budget)
            end = sequence.num_scheduled_tokens + num_missing
            if not num_missing:
                index += 1
            elif is_ahead and not self._has_room(sequence, end):
                return []
            elif self._make_room(sequence, end):
                part = self._guess(self._part(sequence, num_missing), budget)
                step.append(part)
                budget -= part.num_tokens
                index += 1
        most_running = min(self.config.max_num_seqs, self.config.max_num_batched_tokens)
        while self.waiting and budget and len(self.running) < most_running and len(step) < most_parts:
            sequence = self.waiting[0]
            if not self._admit(sequence):
                break
            part = self._part(sequence, self._num_missing(sequence, budget))
            has_room = self.books.grow(part.blocks, part.end)
            assert has_room
            step.append(part)
            budget -= part.num_tokens
        return step

    def note_begun(self, step: list[Scheduled]) -> None:
        """Count the tokens of a step as under way."""
        for part in step:
            part.sequence.num_scheduled_tokens = part.end
            part.sequence.num_awaited += part.is_sampled

    def note_computed(self, step: list[Scheduled]) -> None:
        """Count the tokens of a step as computed, once its new tokens are known, and remember the blocks it filled."""
        for part in step:
            part.sequence.num_awaited -= part.is_sampled
            sequence, blocks = part.sequence, part.blocks
            if sequence.blocks is not blocks:
                continue  # preempted meanwhile
            # Guesses that came true are tokens now; the newest token is always still to be computed.
            end = max(part.end, min(part.start + part.num_tokens, len(sequence.tokens) - 1))
            sequence.num_computed_tokens = end
            sequence.num_scheduled_tokens = max(sequence.num_scheduled_tokens, end)
            first, last = part.start // self.config.block_size, end // self.config.block_size
            if last > first:
                sequence.extend_hashes(self.config.block_size)
                self.books.remember(blocks, sequence.block_hashes, first, last)
            self.books.give_back(blocks, end)

    def forget(self, step: list[Scheduled]) -> None:
        """Take a step as if it had never begun."""
        for part in step:
            part.sequence.num_awaited -= part.is_sampled
            if part.sequence.blocks is part.blocks:
                part.sequence.num_scheduled_tokens = part.sequence.num_computed_tokens

    def release_finished(self) -> list[Sequence]:
        """Take finished sequences out and give their blocks back; they are returned."""
        finished = [sequence for sequence in (*self.running, *self.waiting) if sequence.is_finished]
        for sequence in finished:
            if sequence.blocks is not None:
                self.running.remove(sequence)
                self._free(sequence)
            else:
                self.waiting.remove(sequence)
        return finished

    def _num_missing(self, sequence: Sequence, budget: int) -> int:
        """How many of a sequence's tokens the next step computes; 0 when all are under way or its end is."""
        if sequence.num_awaited and sequence.num_new_tokens + sequence.num_awaited >= sequence.params.max_tokens:
            return 0
        if self.num_stages > 1 and self._waits_for_a_token(sequence):
            return 0
        limit = min(budget, self.config.max_prefill_chunk or budget)
        return min(sequence.num_known_tokens - sequence.num_scheduled_tokens, limit)

    def _waits_for_a_token(self, sequence: Sequence) -> bool:
        is_under_way = sequence.num_scheduled_tokens > sequence.num_computed_tokens
        return bool(sequence.num_awaited) or (is_under_way and sequence.needs_each_token)

    def _part(self, sequence: Sequence, num_tokens: int) -> Scheduled:
        assert sequence.blocks is not None
        start, end = sequence.num_scheduled_tokens, sequence.num_scheduled_tokens + num_tokens
        token_ids = sequence.tokens[start:end]
        token_ids += [AWAITED] * (num_tokens - len(token_ids))
        return Scheduled(sequence, sequence.blocks, start, token_ids, end == sequence.num_known_tokens)

    def _guess(self, part: Scheduled, budget: int) -> Scheduled:
        """Add guesses to a part that decodes, while few rows are computed and blocks are free."""
        most = min(self.config.max_guesses, budget - 1, MAX_ROWS_WITH_GUESSES // len(self.running) - 1)
        if part.num_tokens > 1 or not part.is_sampled or most < 1:
            return part
        guesses = part.sequence.propose(most)
        has_room = self.books.grow(part.blocks, part.end + len(guesses))
        return replace(part, token_ids=[*part.token_ids, *guesses], guesses=guesses) if has_room else part

    def _num_missing_blocks(self, sequence: Sequence, prefix: Prefix | None = None) -> int:
        """Blocks that it lacks for the tokens it has and the next one, when its first ones are shared."""
        num_tokens = min(sequence.num_known_tokens + 1, sequence.max_len)
        return self.books.num_missing(
            num_tokens, sequence.num_computed_tokens, sequence.blocks, prefix or self.books.nothing
        )

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for the sequence's first `num_tokens` tokens, preempting the newest; False if it was that itself."""
        while not self._has_room(sequence, num_tokens):
            newest = self.running[-1]
            self._preempt(newest)
            if newest is sequence:
                return False
        return True

    def _has_room(self, sequence: Sequence, num_tokens: int) -> bool:
        assert sequence.blocks is not None
        return self.books.grow(sequence.blocks, num_tokens)

    def _admit(self, sequence: Sequence) -> bool:
        """Move the first waiting sequence to the running ones, if its tokens and the next one fit beside theirs.

        What the cache remembers of its beginning is shared, but never its last token: that one is computed, so that
        there are logits to choose from.  What another sequence is computing now is waited for: n answers to one prompt
        cost one prefill.
        """
        if sequence.num_awaited:
            return False
        sequence.extend_hashes(self.config.block_size)
        num_sharable = (len(sequence.tokens) - 1) // self.config.block_size
        prefix = self.books.nothing
        if sequence.may_share:
            prefix = self.books.find(sequence.block_hashes[:num_sharable])
            if self._is_being_computed(sequence.block_hashes[prefix.num_blocks : num_sharable]):
                return False
        needed = sum(map(self._num_missing_blocks, self.running)) + self._num_missing_blocks(sequence, prefix)
        if needed > self.books.num_free_without(prefix):
            return False
        self.waiting.popleft()
        sequence.blocks = self.books.open(sequence.max_len, prefix)
        sequence.num_computed_tokens = sequence.num_scheduled_tokens = prefix.num_blocks * self.config.block_size
        if sequence.scheduled_at is None:
            sequence.num_cached_tokens = sequence.num_computed_tokens
        sequence.status = Status.RUNNING
        sequence.scheduled_at = sequence.scheduled_at or time.perf_counter()
        self.running.append(sequence)
        return True

    def _is_being_computed(self, hashes: list[bytes]) -> bool:
        """Whether a running sequence is about to fill the first of these blocks; then it pays to wait and share it."""
        if not hashes:
            return False
        for other in self.running:
            first, last = (n // self.config.block_size for n in (other.num_computed_tokens, other.num_prompt_tokens))
            if hashes[0] in other.block_hashes[first:last]:
                return True
        return False

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._free(sequence)
        sequence.num_computed_tokens = sequence.num_scheduled_tokens = 0
        sequence.status = Status.WAITING
        self.waiting.appendleft(sequence)

    def _free(self, sequence: Sequence) -> None:
        assert sequence.blocks is not None
        self.books.close(sequence.blocks)
        sequence.blocks = None
