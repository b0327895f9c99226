"""Tests of the sandbox need bubblewrap; where it is installed they must pass, whatever else is wrong."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from drivers import Driver
from leftovers import Leftovers

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "mistral_local"
SYSTEM_PYTHON = "/usr/bin/python3"
ORDINARY_USER = 65533

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


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A copy of what the driver needs, outside root's home and readable for everybody."""
    folder = Path(tempfile.mkdtemp(prefix="mistral_local-attacks-", dir="/tmp"))
    folder.chmod(0o755)
    package = folder / "source" / "mistral_local"
    shutil.copytree(SOURCE / "tools", package / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (SOURCE / "__init__.py", SOURCE / "config.py", SOURCE / "errors.py"):
        shutil.copy(file, package)
    for file in (HERE / "driver.py", HERE / "leftovers.py"):
        shutil.copy(file, folder / "source")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def root(place: Path) -> Iterator[Driver]:
    if os.geteuid() != 0:
        pytest.skip("the tests do not run as root")
    (place / "root").mkdir()
    driver = Driver(sys.executable, None, place / "source", place / "root")
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def user(place: Path) -> Iterator[Driver]:
    """An ordinary user with an environment made by /usr/bin/python3."""
    version = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
    )
    if version.stdout != b"True\n":
        pytest.skip(f"{SYSTEM_PYTHON} is not Python 3.11 or newer")
    environment = place / "environment"
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", environment], check=True)
    is_root = os.geteuid() == 0
    home = place / "user"
    home.mkdir(mode=0o700)
    if is_root:
        os.chown(home, ORDINARY_USER, ORDINARY_USER)
    driver = Driver(str(environment / "bin/python"), ORDINARY_USER if is_root else None, place / "source", home)
    yield driver
    driver.close()
