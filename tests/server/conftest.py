"""One server for all tests that do not need another."""

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")

from live import Live, running


@pytest.fixture(scope="package")
def live() -> Iterator[Live]:
    with running() as server:
        yield server
