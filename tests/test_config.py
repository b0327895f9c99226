"""How we run a checkpoint: limits and sizes."""

import pytest

from mistral_local.config import EngineConfig, parse_bytes
from mistral_local.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4_000_000_000), ("0.5 g", 500_000_000), ("12mb", 12_000_000), (" 7 ", 7), (9, 9)]
)
def test_a_size_is_read(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "4 GiB", "many", -3])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(UsageError, match="expected a size such as 4GB or 500MB, got"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_num_batched_tokens": 0}, "max_num_batched_tokens: expected at least 1, got 0"),
        ({"max_waiting": 0}, "max_waiting: expected at least 1, got 0"),
        ({"max_guesses": -1}, "max_guesses: expected at least 0, got -1"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(limit: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EngineConfig(max_num_seqs=1, max_context=8, **limit)
