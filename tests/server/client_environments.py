"""The environments of the published clients, as scripts/client_environments.py builds them beside this Python's packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live import KEY

from mistral_local.clients.variables import client_variables

CHECKS = Path(__file__).parent / "clients"
"""The programs that run in them."""

_ENVIRONMENTS = Path(sys.prefix) / "clients"


def environment(name: str) -> Path:
    """The folder of an environment; the test skips where there is none."""
    if name == "azure-node" and shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    if not (_ENVIRONMENTS / name / "built-from").exists():
        pytest.skip(f"there is no environment {name}: make test-all builds it")
    return _ENVIRONMENTS / name


def python_of(name: str) -> str:
    """The interpreter of an environment."""
    return str(environment(name) / "bin" / "python")


def pointed_to(url: str) -> dict[str, str]:
    """This process's environment, pointed to a server of these tests."""
    return {**os.environ, **client_variables(url, KEY, {})}


def run(*words: str | Path, url: str, **how: Any) -> str:
    """What a program prints to stdout; it must succeed, and print nothing else."""
    done = subprocess.run(words, env=pointed_to(url), capture_output=True, text=True, timeout=300, check=False, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
