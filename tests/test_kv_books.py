"""Block tables of layers that look back by different windows, in small scenes."""

import pytest

from mistral_local.kvcache.block_pool import BlockPool
from mistral_local.kvcache.books import KVBooks, SequenceBlocks
from mistral_local.kvcache.groups import MAX_GROUPS, KVGroups, group_layers

BLOCK = 4


@pytest.mark.parametrize(
    ("windows", "groups"),
    [
        ([None, None], KVGroups((None,), ((0, 0), (0, 1)))),
        ([8, 8], KVGroups((8,), ((0, 0), (0, 1)))),
        ([None, 8], KVGroups((None, 8), ((0, 0), (1, 0)))),
        ([None, 8, 8, None, 8, 8], KVGroups((None, 8, 8), ((0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 1)))),
        ([None, 100], KVGroups((None,), ((0, 0), (0, 1)))),  # a window as long as the context
    ],
)
def test_layers_that_look_equally_far_back_share_tables(windows: list[int | None], groups: KVGroups) -> None:
    assert group_layers(windows, max_context=100) == groups


def test_a_pattern_that_would_take_too_many_groups_keeps_everything_in_one() -> None:
    windows = [None] * 3 + [8] * (MAX_GROUPS + 2)
    assert group_layers(windows, max_context=100).windows == (None,)
    assert group_layers([4] + [8] * MAX_GROUPS, max_context=100).windows == (8,)


def make_books(num_blocks: int, *windows: int | None) -> KVBooks:
    return KVBooks(BlockPool(num_blocks), windows, block_size=BLOCK, max_step_tokens=BLOCK)


def compute(books: KVBooks, blocks: SequenceBlocks, hashes: list[bytes], num_tokens: int) -> None:
    """As a scheduler does, a block at a time."""
    for end in range(BLOCK, num_tokens + 1, BLOCK):
        assert books.grow(blocks, end)
        books.remember(blocks, hashes, end // BLOCK - 1, end // BLOCK)
        books.give_back(blocks, end)


def test_a_windowed_group_holds_its_window_and_the_other_one_everything() -> None:
    books = make_books(16, None, 5)
    blocks = books.open(32, books.nothing)
    hashes = [bytes([i]) for i in range(8)]
    compute(books, blocks, hashes, 32)
    assert [table.num_owned for table in blocks.tables] == [8, 1]
    assert books.pool.num_free == 7
    assert books.most_blocks(32) == 8 + 4
    books.close(blocks)
    assert books.pool.num_free == 16


def test_a_beginning_is_found_only_as_far_as_every_group_sees_it() -> None:
    books = make_books(12, None, 5)
    first = books.open(16, books.nothing)
    hashes = [bytes([i]) for i in range(4)]
    compute(books, first, hashes, 16)
    # The token after 3 blocks sees 5 tokens back, into the block before: both are remembered, the one before them not needed.
    prefix = books.find(hashes[:3])
    assert (prefix.num_blocks, [len(blocks) for blocks in prefix.blocks]) == (3, [3, 1])
    second = books.open(16, prefix)
    assert [table.num_given_back for table in second.tables] == [0, 2]
    assert second.tables[1].blocks[2] == first.tables[1].blocks[2]
    # The window's first blocks are written over by somebody else: nothing begins within them any more.
    thief = books.open(16, books.nothing)
    assert books.grow(thief, 2 * BLOCK)
    assert books.find(hashes[:1]).num_blocks == 0
    assert books.find(hashes[:4]).num_blocks == 4


def test_the_keys_of_one_group_are_never_taken_for_those_of_another() -> None:
    books = make_books(8, None, 5)
    blocks = books.open(4, books.nothing)
    compute(books, blocks, [b"a"], 4)
    assert books.find([b"a"]).blocks == tuple([table.blocks[0]] for table in blocks.tables)
    assert len({table.blocks[0] for table in blocks.tables}) == 2


def test_nothing_is_taken_when_the_groups_together_lack_blocks() -> None:
    books = make_books(3, None, 5)
    blocks = books.open(8, books.nothing)
    assert not books.grow(blocks, 8)
    assert (books.pool.num_free, blocks.num_blocks) == (3, 0)


def test_rows_are_given_out_again() -> None:
    books = make_books(8, None)
    first, second = books.open(4, books.nothing), books.open(4, books.nothing)
    books.close(first)
    assert (second.row, books.open(4, books.nothing).row, books.open(4, books.nothing).row) == (1, 0, 2)
