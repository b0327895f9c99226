"""One server for the tests of a file that do not need another."""

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")

from live import Live, running


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running() as server:
        yield server
