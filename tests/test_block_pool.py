"""The block pool: exact ids in small scenes, and no block with two owners in random ones."""

import random

from mistral_local.kvcache.block_pool import BlockPool, BlockTable


def test_a_lone_sequence_gets_blocks_that_follow_one_another() -> None:
    pool = BlockPool(8)
    table = pool.open_table(4)
    assert pool.grow(table, 2)
    assert pool.grow(table, 3)
    assert table.blocks == [0, 1, 2]
    assert table.is_contiguous


def test_two_sequences_grow_apart_from_each_other() -> None:
    pool = BlockPool(8)
    first, second = pool.open_table(4), pool.open_table(4)
    for length in (1, 2, 3, 4):
        assert pool.grow(first, length)
        assert pool.grow(second, length)
    assert (first.blocks, second.blocks) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert first.is_contiguous
    assert second.is_contiguous


def test_a_freed_claim_is_used_again() -> None:
    pool = BlockPool(8)
    first, second = pool.open_table(4), pool.open_table(4)
    pool.grow(first, 4)
    pool.grow(second, 4)
    pool.close_table(first)
    third = pool.open_table(4)
    assert pool.grow(third, 4)
    assert third.blocks == [0, 1, 2, 3]


def test_growing_past_the_pool_changes_nothing() -> None:
    pool = BlockPool(4)
    table = pool.open_table(4)
    pool.grow(table, 3)
    assert not pool.grow(table, 5)
    assert table.blocks == [0, 1, 2]
    assert pool.num_free == 1


def test_short_memory_makes_fragments_rather_than_failing() -> None:
    pool = BlockPool(4)
    greedy, late = pool.open_table(4), pool.open_table(4)
    assert pool.grow(greedy, 1)
    assert pool.grow(late, 1)
    assert pool.grow(greedy, 3)
    assert not set(greedy.blocks) & set(late.blocks)
    assert pool.num_free == 0


def test_random_use_never_gives_a_block_to_two_owners_and_leaks_nothing() -> None:
    rng = random.Random(0)
    pool = BlockPool(64)
    tables: list[BlockTable] = []
    for _ in range(5000):
        action = rng.random()
        if action < 0.2:
            tables.append(pool.open_table(rng.randint(1, 20)))
        elif action < 0.4 and tables:
            pool.close_table(tables.pop(rng.randrange(len(tables))))
        elif tables:
            table = rng.choice(tables)
            pool.grow(table, len(table.blocks) + rng.randint(0, 3))
        owned = [block for table in tables for block in table.blocks]
        assert len(owned) == len(set(owned))
        assert len(owned) + pool.num_free == pool.num_blocks
        for table in tables:
            first = table.blocks[0] if table.blocks else 0
            assert table.is_contiguous == (table.blocks == list(range(first, first + len(table.blocks))))
    for table in tables:
        pool.close_table(table)
    assert pool.num_free == pool.num_blocks
