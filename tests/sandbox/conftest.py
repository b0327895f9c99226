"""Tests of the sandbox need bubblewrap; where it is installed they must pass, whatever else is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from leftovers import Leftovers

HAS_BUBBLEWRAP = any(Path(folder, "bwrap").is_file() for folder in ("/usr/bin", "/usr/local/bin"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not HAS_BUBBLEWRAP:
        for item in items:
            if item.get_closest_marker("bwrap"):
                item.add_marker(pytest.mark.skip(reason="bubblewrap is not installed: apt install bubblewrap"))


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process, mount, file or descriptor more after the test than before."""
    before = Leftovers()
    yield
    assert before.found_since() == []
