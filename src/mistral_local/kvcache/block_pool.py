"""Which blocks of the KV cache are free, and which belong together.  Plain integers; no tensor is touched here."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class BlockTable:
    """The blocks of one sequence, in the order of its tokens.

    Attributes:
        claim: start and end of the range that the sequence is expected to grow into; a hint, never a promise.
        blocks: block ids.
        is_contiguous: whether the ids follow one another, so that the tokens can be read as one view.
    """

    claim: tuple[int, int]
    blocks: list[int] = field(default_factory=list)
    is_contiguous: bool = True

    def append(self, block: int) -> None:
        """Add the next block of the sequence."""
        if self.blocks and block != self.blocks[-1] + 1:
            self.is_contiguous = False
        self.blocks.append(block)


class BlockPool:
    """Hands out the `num_blocks` blocks of a KV cache, next to each other where possible.

    A block is free or has exactly one owner.  A new sequence claims a stretch that is long enough for all that it may
    write, away from the claims of others; while it grows there, its keys are one contiguous view.  A claim costs
    nothing: when memory is short, others write into it and the sequence goes on elsewhere, in fragments.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self._is_free = bytearray(b"\x01" * num_blocks)
        self._claims: set[tuple[int, int]] = set()

    def open_table(self, num_expected: int) -> BlockTable:
        """Start a sequence that may grow to `num_expected` blocks; allocates nothing yet."""
        start, end = self._find_gap(num_expected)
        claim = (start, min(end, start + num_expected))
        self._claims.add(claim)
        return BlockTable(claim)

    def grow(self, table: BlockTable, num_blocks: int) -> bool:
        """Append blocks until `table` holds `num_blocks`; False, with nothing changed, if too few are free."""
        missing = num_blocks - len(table.blocks)
        if missing > self.num_free:
            return False
        for _ in range(missing):
            block = self._next_block(table)
            self._is_free[block] = 0
            self.num_free -= 1
            table.append(block)
        return True

    def close_table(self, table: BlockTable) -> None:
        """Give back every block of a sequence, and its claim."""
        for block in table.blocks:
            self._is_free[block] = 1
        self.num_free += len(table.blocks)
        table.blocks.clear()
        self._claims.discard(table.claim)

    def _next_block(self, table: BlockTable) -> int:
        wanted = table.blocks[-1] + 1 if table.blocks else table.claim[0]
        if wanted < self.num_blocks and self._is_free[wanted]:
            return wanted
        unclaimed = self._first_free(self._gaps())
        return unclaimed if unclaimed is not None else self._is_free.index(1)

    def _first_free(self, ranges: Iterable[tuple[int, int]]) -> int | None:
        for start, end in ranges:
            block = self._is_free.find(1, start, end)
            if block >= 0:
                return block
        return None

    def _gaps(self) -> list[tuple[int, int]]:
        """The stretches that nobody claims, from left to right."""
        gaps, at = [], 0
        for start, end in sorted(self._claims):
            if start > at:
                gaps.append((at, start))
            at = max(at, end)
        return [*gaps, (at, self.num_blocks)] if at < self.num_blocks else gaps

    def _find_gap(self, num_expected: int) -> tuple[int, int]:
        """The first unclaimed stretch of that length with all blocks free, else the largest unclaimed one."""
        gaps = self._gaps()
        for start, end in gaps:
            if end - start >= num_expected and self._is_free.find(0, start, start + num_expected) < 0:
                return start, end
        return max(gaps, key=lambda gap: gap[1] - gap[0], default=(0, self.num_blocks))
