"""Which blocks of the KV cache are free, shared or remembered.  Plain integers; no tensor is touched here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class BlockTable:
    """The blocks of one sequence, in the order of its tokens.

    Attributes:
        claim: start and end of the range that the sequence is expected to grow into; a hint, never a promise.
        blocks: block ids.
        num_given_back: so many of the first blocks are not, or no longer, the sequence's; nothing reads them.
    """

    claim: tuple[int, int]
    blocks: list[int] = field(default_factory=list)
    num_given_back: int = 0

    @property
    def num_owned(self) -> int:
        """Blocks that the sequence has."""
        return len(self.blocks) - self.num_given_back


def most_blocks(num_tokens: int, *, block_size: int, window: int | None, step_tokens: int) -> int:
    """Most blocks that a sequence holds at one time on its way to so many tokens.

    Args:
        window: tokens that the longest-sighted layer looks back, itself included; None means all.
        step_tokens: most tokens that a step adds.  They are written before what they no longer see is given back, and
            either end of the window may cut a block.
    """
    num_blocks = -(-num_tokens // block_size)
    return num_blocks if window is None else min(num_blocks, -(-(window + step_tokens) // block_size) + 1)


class BlockPool:
    """Hands out the `num_blocks` blocks of a KV cache: shared where their content is equal, side by side where it can.

    A block is used by one or more sequences, or free.  A free block that was full is remembered by the hash of its
    content and of all before it, until it is needed for something else; the least recently used goes first.

    A new sequence claims a stretch that is long enough for all that it may write, away from the claims of others and
    from what is remembered; while it grows there, its keys are one contiguous view.  A claim costs nothing: when memory
    is short, others write into it and the sequence goes on elsewhere, in fragments.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self._num_users = [0] * num_blocks
        self._hash_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._remembered: OrderedDict[int, None] = OrderedDict()  # free blocks with a hash, least recently used first
        self._is_blank = bytearray(b"\x01" * num_blocks)  # free and without a hash
        self._claims: list[tuple[int, int]] = []

    @property
    def num_remembered(self) -> int:
        """Free blocks whose content can still be shared."""
        return len(self._remembered)

    def find(self, hashes: list[bytes]) -> list[int]:
        """The blocks that hold the longest known beginning of a chain of hashes."""
        found = []
        for digest in hashes:
            block = self._block_of.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def num_free_without(self, shared: list[int]) -> int:
        """Free blocks that would be left if these were in use."""
        return self.num_free - sum(self._num_users[block] == 0 for block in shared)

    def knows(self, digest: bytes) -> bool:
        """Whether a block holds what this hash stands for."""
        return digest in self._block_of

    def open_table(self, num_expected: int, shared: list[int], *, num_skipped: int = 0) -> BlockTable:
        """Start a sequence that may grow to `num_expected` blocks.

        Args:
            shared: the blocks that it begins with,
            num_skipped: after so many that it never reads.
        """
        num_own = num_expected - len(shared) - num_skipped
        start = self._start_after(shared[-1]) if shared else None
        start = self._find_start(num_own) if start is None else start
        table = BlockTable((start, min(self.num_blocks, start + num_own)))
        self._claims.append(table.claim)
        table.blocks += [0] * num_skipped
        table.num_given_back = num_skipped
        for block in shared:
            self._use(block)
            table.blocks.append(block)
        return table

    def grow(self, table: BlockTable, num_blocks: int) -> bool:
        """Append blocks until `table` holds `num_blocks`; False, with nothing changed, if too few are free."""
        missing = num_blocks - len(table.blocks)
        if missing > self.num_free:
            return False
        for _ in range(missing):
            block = self._next_block(table)
            self._forget(block)
            self._use(block)
            table.blocks.append(block)
        return True

    def remember(self, block: int, digest: bytes) -> None:
        """Note what a full block in use holds, so that others can share it; the first of equal blocks is kept."""
        if block not in self._hash_of and digest not in self._block_of:
            self._hash_of[block] = digest
            self._block_of[digest] = block

    def give_back(self, table: BlockTable, num_blocks: int) -> None:
        """Give up the first `num_blocks` blocks of a sequence, as far as they are not given up yet."""
        for block in table.blocks[table.num_given_back : num_blocks]:
            self._give_up(block)
        table.num_given_back = max(table.num_given_back, num_blocks)

    def close_table(self, table: BlockTable) -> None:
        """Give up every block of a sequence, and its claim.  The last blocks of a chain will be forgotten first."""
        for block in reversed(table.blocks[table.num_given_back :]):
            self._give_up(block)
        table.blocks.clear()
        table.num_given_back = 0
        self._claims.remove(table.claim)

    def _give_up(self, block: int) -> None:
        self._num_users[block] -= 1
        if self._num_users[block] == 0:
            self.num_free += 1
            if block in self._hash_of:
                self._remembered[block] = None
            else:
                self._is_blank[block] = 1

    def _use(self, block: int) -> None:
        if self._num_users[block] == 0:
            self.num_free -= 1
            self._remembered.pop(block, None)
            self._is_blank[block] = 0
        self._num_users[block] += 1

    def _forget(self, block: int) -> None:
        digest = self._hash_of.pop(block, None)
        if digest is not None:
            del self._block_of[digest]

    def _next_block(self, table: BlockTable) -> int:
        """The block after the last one if it is free, else one of its claim, else one that nobody claims, else any."""
        wanted = table.blocks[-1] + 1 if table.blocks else table.claim[0]
        if wanted < self.num_blocks and self._num_users[wanted] == 0:
            return wanted
        for start, end in (table.claim, *self._gaps()):
            block = self._is_blank.find(1, start, end)
            if block >= 0:
                return block
        blank = self._is_blank.find(1)
        return blank if blank >= 0 else next(iter(self._remembered))

    def _start_after(self, block: int) -> int | None:
        """The block that follows, if it is free and nobody else's; there a shared beginning goes on as one stretch."""
        after = block + 1
        is_claimed = any(start <= after < end for start, end in self._claims)
        return after if after < self.num_blocks and self._num_users[after] == 0 and not is_claimed else None

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """The stretches that nobody claims, from left to right."""
        at = 0
        for start, end in sorted(self._claims):
            if start > at:
                yield at, start
            at = max(at, end)
        if at < self.num_blocks:
            yield at, self.num_blocks

    def _find_start(self, num_expected: int) -> int:
        """Where a new sequence begins: where it fits between the others, else where it has most room."""
        best, room = 0, 0
        for gap_start, gap_end in self._gaps():
            for start, end in self._blank_runs(gap_start, gap_end):
                if end - start >= num_expected:
                    return start
                if end - start > room:
                    # A remembered sequence before the run may go on there; half of the room is left to it.
                    follows = start > 0 and start - 1 in self._remembered
                    best, room = (start + end) // 2 if follows else start, end - start
        return best if room else next(iter(self._remembered), 0)

    def _blank_runs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The stretches of blank blocks within a range."""
        at = self._is_blank.find(1, start, end)
        while at >= 0:
            stop = self._is_blank.find(0, at, end)
            stop = end if stop < 0 else stop
            yield at, stop
            at = self._is_blank.find(1, stop, end)
