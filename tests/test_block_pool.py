"""The block pool: exact ids in small scenes, and no block with two owners in random ones."""

import random

import pytest

from mistral_local.kvcache.block_pool import BlockPool, BlockTable
from mistral_local.kvcache.prefix_hash import block_hashes


def test_a_lone_sequence_gets_blocks_that_follow_one_another() -> None:
    pool = BlockPool(8)
    table = pool.open_table(4, [])
    assert pool.grow(table, 2)
    assert pool.grow(table, 3)
    assert table.blocks == [0, 1, 2]


def test_two_sequences_grow_apart_from_each_other() -> None:
    pool = BlockPool(8)
    first, second = pool.open_table(4, []), pool.open_table(4, [])
    for length in (1, 2, 3, 4):
        assert pool.grow(first, length)
        assert pool.grow(second, length)
    assert (first.blocks, second.blocks) == ([0, 1, 2, 3], [4, 5, 6, 7])


def test_a_freed_claim_is_used_again() -> None:
    pool = BlockPool(8)
    first, second = pool.open_table(4, []), pool.open_table(4, [])
    pool.grow(first, 4)
    pool.grow(second, 4)
    pool.close_table(first)
    third = pool.open_table(4, [])
    assert pool.grow(third, 4)
    assert third.blocks == [0, 1, 2, 3]


def test_growing_past_the_pool_changes_nothing() -> None:
    pool = BlockPool(4)
    table = pool.open_table(4, [])
    pool.grow(table, 3)
    assert not pool.grow(table, 5)
    assert table.blocks == [0, 1, 2]
    assert pool.num_free == 1


def test_short_memory_makes_fragments_rather_than_failing() -> None:
    pool = BlockPool(4)
    greedy, late = pool.open_table(4, []), pool.open_table(4, [])
    assert pool.grow(greedy, 1)
    assert pool.grow(late, 1)
    assert pool.grow(greedy, 3)
    assert not set(greedy.blocks) & set(late.blocks)
    assert pool.num_free == 0


def chain(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


def fill(pool: BlockPool, hashes: list[bytes], num_expected: int = 4) -> BlockTable:
    """Run a sequence whose blocks become full one after the other, sharing what is known."""
    table = pool.open_table(num_expected, pool.find(hashes))
    assert pool.grow(table, len(hashes))
    for block, digest in zip(table.blocks, hashes, strict=True):
        pool.remember(block, digest)
    return table


def test_equal_beginnings_share_blocks_while_both_run() -> None:
    pool = BlockPool(8)
    first = fill(pool, chain("a", "b", "c"))
    second = fill(pool, chain("a", "b", "x"))
    assert (first.blocks, second.blocks) == ([0, 1, 2], [0, 1, 4])
    assert pool.num_free == 4
    pool.close_table(first)
    assert pool.num_free == 5
    assert pool.grow(second, 4)
    pool.close_table(second)
    assert pool.num_free == 8


def test_what_was_freed_is_found_again_and_goes_on_side_by_side() -> None:
    pool = BlockPool(8)
    pool.close_table(fill(pool, chain("a", "b")))
    assert (pool.num_free, pool.num_remembered) == (8, 2)
    again = fill(pool, chain("a", "b", "c"))
    assert again.blocks == [0, 1, 2]


def test_a_new_sequence_spares_what_is_remembered_while_there_is_room() -> None:
    pool = BlockPool(12)
    pool.close_table(fill(pool, chain("a", "b")))
    other = fill(pool, chain("x", "y"), num_expected=12)
    assert not set(other.blocks) & {0, 1}
    assert pool.find(chain("a", "b")) == [0, 1]


def test_the_least_recently_used_is_forgotten_first_and_a_chain_from_its_end() -> None:
    pool = BlockPool(6)
    pool.close_table(fill(pool, chain("a", "b"), 2))
    pool.close_table(fill(pool, chain("x", "y"), 2))
    pool.close_table(fill(pool, chain("a", "b"), 2))  # used again: now x, y are older
    big = pool.open_table(3, [])
    assert pool.grow(big, 3)
    assert pool.find(chain("x", "y")) == pool.find(chain("x"))
    assert len(pool.find(chain("x", "y"))) == 1
    assert len(pool.find(chain("a", "b"))) == 2


def test_a_block_in_use_is_never_taken_for_something_else() -> None:
    pool = BlockPool(4)
    first = fill(pool, chain("a", "b"))
    second = pool.open_table(4, pool.find(chain("a", "b")))
    assert not pool.grow(second, 5)
    assert pool.grow(second, 4)
    pool.close_table(first)
    assert pool.num_free == 0
    pool.close_table(second)
    assert pool.num_free == 4


def test_hashes_stand_for_all_tokens_before_and_the_root() -> None:
    hashes = block_hashes(list(range(9)), 4, root=b"w", known=[])
    assert len(hashes) == 2
    assert block_hashes(list(range(13)), 4, root=b"w", known=hashes)[:2] == hashes
    assert block_hashes([9, 1, 2, 3, 4, 5, 6, 7], 4, root=b"w", known=[])[1] != hashes[1]
    assert block_hashes(list(range(9)), 4, root=b"v", known=[])[0] != hashes[0]


class Book:
    """A pool under random use, and what must hold after each step."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.pool = BlockPool(48)
        self.tables: list[tuple[BlockTable, int, list[bytes]]] = []  # with the number of shared blocks and the hashes

    def open(self) -> None:
        hashes = chain(*(f"{self.rng.randint(0, 1)}{i}" for i in range(self.rng.randint(1, 8))))
        hashes = [b"/".join(hashes[: i + 1]) for i in range(len(hashes))]
        shared = self.pool.find(hashes[:-1])
        if len(hashes) - len(shared) <= self.pool.num_free_without(shared):
            self.tables.append((self.pool.open_table(self.rng.randint(8, 14), shared), len(shared), hashes))

    def grow(self) -> None:
        table, _, hashes = self.rng.choice(self.tables)
        if self.pool.grow(table, len(table.blocks) + self.rng.randint(0, 3)):
            for block, digest in zip(table.blocks, hashes, strict=False):
                self.pool.remember(block, digest)

    def close(self) -> None:
        table, _, _ = self.tables.pop(self.rng.randrange(len(self.tables)))
        self.pool.close_table(table)

    def check(self) -> None:
        owned = [block for table, num_shared, _ in self.tables for block in table.blocks[num_shared:]]
        assert len(owned) == len(set(owned)), "a block with two writers"
        used = {block for table, _, _ in self.tables for block in table.blocks}
        assert len(used) + self.pool.num_free == self.pool.num_blocks
        assert self.pool.num_remembered <= self.pool.num_free
        for table, num_shared, hashes in self.tables:
            assert self.pool.find(hashes)[:num_shared] == table.blocks[:num_shared], "shared content was forgotten"


@pytest.mark.parametrize("seed", range(3))
def test_random_use_never_gives_a_block_two_writers_and_leaks_nothing(seed: int) -> None:
    book = Book(seed)
    for _ in range(4000):
        action = book.rng.choice([book.open, book.grow, book.grow, book.close])
        if action == book.open or book.tables:
            action()
        book.check()
    while book.tables:
        book.close()
    assert book.pool.num_free == book.pool.num_blocks
