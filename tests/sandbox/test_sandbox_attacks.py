"""The attack suite: every attack as root and as an ordinary user, and as that user once without the sandbox.

An attack prints BEGIN when it starts and LEAK when it has what it wants.  Without BEGIN nothing was tried, which fails.
Without the sandbox an attack must succeed, or say why an ordinary user cannot do it anyway: else it would prove nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS, Attack, files, kernel, network, processes, resources

pytestmark = pytest.mark.bwrap

MODULES = (files, kernel, network, processes, resources)
HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "mistral_local"
SYSTEM_PYTHON = "/usr/bin/python3"
ORDINARY_USER = 65533


class Driver:
    """A driver.py that runs as some user, with some interpreter, until it is closed."""

    def __init__(self, python: str, user: int | None, source: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-B", str(source / "driver.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
            cwd="/",
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )

    def run(self, attack: Attack, *, bare: bool) -> dict[str, Any]:
        job = {"program": attack.program(), "arguments": attack.arguments, "bare": bare}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the driver has ended"
        return dict(json.loads(answer))

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A copy of what the driver needs, outside root's home and readable for everybody."""
    folder = Path(tempfile.mkdtemp(prefix="mistral_local-attacks-", dir="/tmp"))
    folder.chmod(0o755)
    package = folder / "source" / "mistral_local"
    shutil.copytree(SOURCE / "tools", package / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (SOURCE / "__init__.py", SOURCE / "errors.py"):
        shutil.copy(file, package)
    for file in (HERE / "driver.py", HERE / "leftovers.py"):
        shutil.copy(file, folder / "source")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def root(place: Path) -> Iterator[Driver]:
    if os.geteuid() != 0:
        pytest.skip("the tests do not run as root")
    (place / "root").mkdir()
    driver = Driver(sys.executable, None, place / "source", place / "root")
    yield driver
    driver.close()


@pytest.fixture(scope="module")
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


def check_that_it_held(answer: dict[str, Any]) -> None:
    assert answer["begins"], answer
    assert not answer["leaks"], answer
    assert answer["left"] == [], answer
    assert answer["victim_is_alive"], answer


each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])


@each_attack
def test_root_is_safe_from_a_program_that(attack: Attack, root: Driver) -> None:
    check_that_it_held(root.run(attack, bare=False))


@each_attack
def test_an_ordinary_user_is_safe_from_a_program_that(attack: Attack, user: Driver) -> None:
    check_that_it_held(user.run(attack, bare=False))


@each_attack
def test_without_the_sandbox_an_ordinary_user_would_suffer_a_program_that(attack: Attack, user: Driver) -> None:
    answer = user.run(attack, bare=True)
    assert answer["begins"], answer
    assert answer["leaks"] or attack.without_sandbox, answer


def test_every_attack_has_its_own_name() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names)) > 90 // len(MODULES)
