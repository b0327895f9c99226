"""The books of a KV cache: which blocks each sequence has, in every group of layers."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import chain

from mistral_local.kvcache.block_pool import BlockPool, BlockTable, most_blocks


@dataclass(slots=True, eq=False)
class SequenceBlocks:
    """The blocks of one sequence.

    Attributes:
        row: a small number that no other open sequence has.
        tables: one per group, all of equal length.
    """

    row: int
    tables: tuple[BlockTable, ...]

    @property
    def num_blocks(self) -> int:
        """Length of each table."""
        return len(self.tables[0].blocks)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A beginning that the cache remembers.

    Attributes:
        num_blocks: how long it is.
        blocks: for each group the last of its blocks, as many as a token that follows still sees.
    """

    num_blocks: int
    blocks: tuple[list[int], ...]


class KVBooks:
    """One block pool, and for each sequence a block table per group of layers.

    Args:
        pool: a block holds `block_size` tokens of one group.
        windows: of each group, how many keys a query sees; None means all.
        max_step_tokens: most tokens of one sequence in a step.
    """

    def __init__(
        self, pool: BlockPool, windows: tuple[int | None, ...], *, block_size: int, max_step_tokens: int
    ) -> None:
        self.pool, self.windows, self.block_size = pool, windows, block_size
        self._max_step_tokens = max_step_tokens
        self._free_rows: list[int] = []
        self._num_rows = 0

    @property
    def nothing(self) -> Prefix:
        """The beginning of no tokens."""
        return Prefix(0, tuple([] for _ in self.windows))

    def most_blocks(self, num_tokens: int) -> int:
        """Most blocks that a sequence of so many tokens holds at one time."""
        return most_blocks_of(
            num_tokens, self.windows, block_size=self.block_size, max_step_tokens=self._max_step_tokens
        )

    def find(self, hashes: list[bytes]) -> Prefix:
        """The longest beginning of a chain of hashes of which every group remembers all that it still sees."""
        for window in self.windows:
            if window is None:
                hashes = hashes[: self._num_known(hashes)]
                break
        runs = [self._runs(group, hashes) for group in range(len(self.windows))]
        for num_blocks in range(len(hashes), 0, -1):
            needed = [min(num_blocks, num_blocks - self._first_seen(group, num_blocks)) for group in range(len(runs))]
            if all(run[num_blocks - 1] >= num for run, num in zip(runs, needed, strict=True)):
                blocks = [
                    self.pool.find(self._keys(group, hashes[num_blocks - num : num_blocks]))
                    for group, num in enumerate(needed)
                ]
                return Prefix(num_blocks, tuple(blocks))
        return self.nothing

    def num_missing(self, num_tokens: int, num_computed: int, blocks: SequenceBlocks | None, prefix: Prefix) -> int:
        """Blocks that a sequence lacks to hold `num_tokens`, of which `num_computed` are in the cache.

        Args:
            blocks: what it has; None when it waits.
            prefix: what it would share if it began now.
        """
        held = prefix.num_blocks if blocks is None else blocks.num_blocks
        to_compute = num_tokens - max(num_computed, prefix.num_blocks * self.block_size)
        step_tokens = min(to_compute, self._max_step_tokens)
        num_missing = 0
        for group, window in enumerate(self.windows):
            owned = len(prefix.blocks[group]) if blocks is None else blocks.tables[group].num_owned
            most = most_blocks(num_tokens, block_size=self.block_size, window=window, step_tokens=step_tokens)
            num_missing += max(0, min(most - owned, self._num_blocks(num_tokens) - held))
        return num_missing

    def num_free_without(self, prefix: Prefix) -> int:
        """Free blocks that would be left if these were in use."""
        return self.pool.num_free_without(list(chain(*prefix.blocks)))

    def open(self, num_tokens: int, prefix: Prefix) -> SequenceBlocks:
        """Start a sequence that begins with `prefix` and may grow to `num_tokens`."""
        num_expected = self._num_blocks(num_tokens)
        tables = tuple(
            self.pool.open_table(num_expected, shared, num_skipped=prefix.num_blocks - len(shared))
            for shared in prefix.blocks
        )
        if not self._free_rows:
            self._free_rows.append(self._num_rows)
            self._num_rows += 1
        return SequenceBlocks(heapq.heappop(self._free_rows), tables)

    def grow(self, blocks: SequenceBlocks, num_tokens: int) -> bool:
        """Give a sequence blocks for so many tokens; False, with nothing changed, if too few are free."""
        num_blocks = self._num_blocks(num_tokens)
        missing = sum(max(0, num_blocks - len(table.blocks)) for table in blocks.tables)
        return missing <= self.pool.num_free and all(self.pool.grow(table, num_blocks) for table in blocks.tables)

    def remember(self, blocks: SequenceBlocks, hashes: list[bytes], first: int, last: int) -> None:
        """Note what the full blocks first .. last - 1 of a sequence hold, so that others can share them."""
        for group, table in enumerate(blocks.tables):
            for index, key in zip(range(first, last), self._keys(group, hashes[first:last]), strict=True):
                self.pool.remember(table.blocks[index], key)

    def give_back(self, blocks: SequenceBlocks, num_computed: int) -> None:
        """Give up the blocks that no later token sees, when so many are in the cache."""
        for table, window in zip(blocks.tables, self.windows, strict=True):
            if window is not None:
                self.pool.give_back(table, max(0, num_computed - window + 1) // self.block_size)

    def close(self, blocks: SequenceBlocks) -> None:
        """Give up every block of a sequence."""
        for table in blocks.tables:
            self.pool.close_table(table)
        heapq.heappush(self._free_rows, blocks.row)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _num_known(self, hashes: list[bytes]) -> int:
        group = self.windows.index(None)
        return len(self.pool.find(self._keys(group, hashes)))

    def _first_seen(self, group: int, num_blocks: int) -> int:
        """The first block that the token after so many full blocks sees."""
        window = self.windows[group]
        return 0 if window is None else max(0, num_blocks * self.block_size - window + 1) // self.block_size

    def _runs(self, group: int, hashes: list[bytes]) -> list[int]:
        """How many blocks in a row are remembered up to each block."""
        runs, run = [], 0
        for key in self._keys(group, hashes):
            run = run + 1 if self.pool.knows(key) else 0
            runs.append(run)
        return runs

    def _keys(self, group: int, hashes: list[bytes]) -> list[bytes]:
        """Equal tokens have other keys in another group."""
        return hashes if group == 0 else [digest + bytes([group]) for digest in hashes]


def most_blocks_of(num_tokens: int, windows: tuple[int | None, ...], *, block_size: int, max_step_tokens: int) -> int:
    """Most blocks that a sequence holds at one time on its way to so many tokens, in all groups."""
    return sum(
        most_blocks(num_tokens, block_size=block_size, window=window, step_tokens=max_step_tokens) for window in windows
    )
