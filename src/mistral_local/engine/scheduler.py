"""Which sequences take part in the next step, and with how many tokens."""

import time
from collections import deque
from dataclasses import dataclass, replace

from mistral_local.config import EngineConfig
from mistral_local.engine.sequence import Sequence, Status
from mistral_local.kvcache.block_pool import BlockPool, most_blocks

# A step of few rows takes as long as one of a single row; with more of them guesses would cost what they gain.
MAX_ROWS_WITH_GUESSES = 16


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One sequence's part in a step: its tokens start .. end - 1, and guesses of those that follow.

    Attributes:
        num_known_tokens: how many of the computed tokens the sequence holds.
        guesses: what may come after its last token; computed in the same step, and kept as far as it is sampled.
    """

    sequence: Sequence
    start: int
    num_known_tokens: int
    guesses: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes."""
        return self.num_known_tokens + len(self.guesses)

    @property
    def end(self) -> int:
        """Where the known tokens of the step end."""
        return self.start + self.num_known_tokens

    @property
    def token_ids(self) -> list[int]:
        """What the model computes."""
        return [*self.sequence.tokens[self.start : self.end], *self.guesses]

    @property
    def num_prompt_tokens(self) -> int:
        """How many of them came with the request."""
        return max(0, min(self.end, self.sequence.num_prompt_tokens) - self.start)

    @property
    def reaches_end(self) -> bool:
        """Whether this step computes the last known token."""
        return self.end == len(self.sequence.tokens)

    @property
    def is_sampled(self) -> bool:
        """Whether the next token is chosen after this step."""
        return self.reaches_end and self.sequence.params.pooling is None

    @property
    def is_pooled(self) -> bool:
        """Whether this step ends a sequence whose hidden states are pooled."""
        return self.reaches_end and self.sequence.params.pooling is not None


class Scheduler:
    """Lets every sequence's computed tokens catch up with its tokens, under one token budget per step.

    There are no prefill and decode phases: a running sequence usually lacks one token, a new one lacks its prompt, and
    both go into the same step.  Running sequences come first, then waiting ones in order of arrival.  When blocks run
    out, the newest running sequence gives its blocks back and is computed again later.
    """

    def __init__(self, config: EngineConfig, pool: BlockPool, window: int | None = None) -> None:
        """Make a scheduler.

        Args:
            window: no layer looks further back than so many tokens; None when some layer sees all.
        """
        self.config, self.pool, self.window = config, pool, window
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Scheduled]:
        """Choose the next step's tokens and give them blocks."""
        budget = self.config.max_num_batched_tokens
        step: list[Scheduled] = []
        index = 0
        while index < len(self.running) and budget:
            sequence = self.running[index]
            part = self._part(sequence, budget)
            if self._make_room(sequence, part.end):
                part = self._guess(part, budget)
                step.append(part)
                budget -= part.num_tokens
                index += 1
        most_running = min(self.config.max_num_seqs, self.config.max_num_batched_tokens)
        while self.waiting and budget and len(self.running) < most_running:
            sequence = self.waiting[0]
            if not self._admit(sequence):
                break
            part = self._part(sequence, budget)
            assert sequence.block_table is not None
            has_room = self.pool.grow(sequence.block_table, self._num_blocks(part.end))
            assert has_room
            step.append(part)
            budget -= part.num_tokens
        return step

    def note_computed(self, step: list[Scheduled]) -> None:
        """Count the tokens of a step as computed, once its new tokens are known, and remember the blocks it filled."""
        for part in step:
            sequence = part.sequence
            # Guesses that came true are tokens now; the newest token is always still to be computed.
            end = max(part.end, min(part.start + part.num_tokens, len(sequence.tokens) - 1))
            sequence.num_computed_tokens = end
            first, last = part.start // self.config.block_size, end // self.config.block_size
            if last > first and sequence.block_table is not None:
                sequence.extend_hashes(self.config.block_size)
                for index in range(first, last):
                    self.pool.remember(sequence.block_table.blocks[index], sequence.block_hashes[index])
            if self.window is not None and sequence.block_table is not None:
                first_seen = max(0, end - self.window + 1)
                self.pool.give_back(sequence.block_table, first_seen // self.config.block_size)

    def release_finished(self) -> list[Sequence]:
        """Take finished sequences out and give their blocks back; they are returned."""
        finished = [sequence for sequence in (*self.running, *self.waiting) if sequence.is_finished]
        for sequence in finished:
            if sequence.block_table is not None:
                self.running.remove(sequence)
                self._free(sequence)
            else:
                self.waiting.remove(sequence)
        return finished

    def _part(self, sequence: Sequence, budget: int) -> Scheduled:
        missing = len(sequence.tokens) - sequence.num_computed_tokens
        limit = min(budget, self.config.max_prefill_chunk or budget)
        return Scheduled(sequence, sequence.num_computed_tokens, min(missing, limit))

    def _guess(self, part: Scheduled, budget: int) -> Scheduled:
        """Add guesses to a part that decodes, while few rows are computed and blocks are free."""
        most = min(self.config.max_guesses, budget - 1, MAX_ROWS_WITH_GUESSES // len(self.running) - 1)
        if part.num_known_tokens > 1 or not part.is_sampled or most < 1:
            return part
        guesses = part.sequence.propose(most)
        assert part.sequence.block_table is not None
        has_room = self.pool.grow(part.sequence.block_table, self._num_blocks(part.end + len(guesses)))
        return replace(part, guesses=guesses) if has_room else part

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.config.block_size)

    def _num_missing_blocks(self, sequence: Sequence, num_shared: int = 0) -> int:
        """Blocks that it lacks for the tokens it has and the next one, when its first ones are shared."""
        num_tokens = min(len(sequence.tokens) + 1, sequence.max_len)
        table = sequence.block_table
        owned, held = (0, num_shared) if table is None else (table.num_owned, len(table.blocks))
        missing = num_tokens - max(sequence.num_computed_tokens, num_shared * self.config.block_size)
        most = most_blocks(
            num_tokens,
            block_size=self.config.block_size,
            window=self.window,
            step_tokens=min(missing, self.config.max_num_batched_tokens),
        )
        return max(0, min(most - owned, self._num_blocks(num_tokens) - held))

    def _make_room(self, sequence: Sequence, num_tokens: int) -> bool:
        """Blocks for the sequence's first `num_tokens` tokens, preempting the newest; False if it was that itself."""
        assert sequence.block_table is not None
        while not self.pool.grow(sequence.block_table, self._num_blocks(num_tokens)):
            newest = self.running[-1]
            self._preempt(newest)
            if newest is sequence:
                return False
        return True

    def _admit(self, sequence: Sequence) -> bool:
        """Move the first waiting sequence to the running ones, if its tokens and the next one fit beside theirs.

        What the cache remembers of its beginning is shared, but never its last token: that one is computed, so that
        there are logits to choose from.  What another sequence is computing now is waited for: n answers to one prompt
        cost one prefill.
        """
        sequence.extend_hashes(self.config.block_size)
        num_sharable = (len(sequence.tokens) - 1) // self.config.block_size
        shared = self.pool.find(sequence.block_hashes[:num_sharable]) if sequence.may_share else []
        if sequence.may_share and self._is_being_computed(sequence.block_hashes[len(shared) : num_sharable]):
            return False
        needed = sum(map(self._num_missing_blocks, self.running)) + self._num_missing_blocks(sequence, len(shared))
        if needed > self.pool.num_free_without(shared):
            return False
        self.waiting.popleft()
        sequence.block_table = self.pool.open_table(self._num_blocks(sequence.max_len), shared)
        sequence.num_computed_tokens = len(shared) * self.config.block_size
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
        sequence.num_computed_tokens = 0
        sequence.status = Status.WAITING
        self.waiting.appendleft(sequence)

    def _free(self, sequence: Sequence) -> None:
        assert sequence.block_table is not None
        self.pool.close_table(sequence.block_table)
        sequence.block_table = None
