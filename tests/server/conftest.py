"""One server for the tests of a file that do not need another; without the server's libraries there are no tests here."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from live import Live

if not all(map(find_spec, ("fastapi", "uvicorn", "prometheus_client", "httpx", "hypothesis"))):
    collect_ignore_glob = ["*.py"]


@pytest.fixture(scope="module")
def live() -> "Iterator[Live]":
    from live import running

    with running() as server:
        yield server
