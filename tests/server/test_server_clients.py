"""The published clients, each version in an environment of its own, against one real server.

The checks are in clients/ and run there, in the way of the clients' users; scripts/client_environments.py builds the
environments.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import client_environments
import pytest
from client_environments import environment, python_of
from live import KEY, Live, needs_bwrap, running

pytestmark = pytest.mark.long

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
FILES = {
    "mistralai-1": ("check_mistral.py", "check_riza.py"),
    "mistralai-3": ("check_mistral.py", "check_riza.py"),
    "openai": ("check_openai.py",),
    "azure-b3": ("check_azure.py",),
    "azure-b9": ("check_azure.py",),
    "azure-node": ("azure-node/check_azure.mjs",),
}
OF_PACKAGE = {"mistralai": "mistralai-3", "openai": "openai", "azure": "azure-b9"}
Reports = dict[str, str | None]
"""Name of a check -> the traceback of its failure."""


def cases() -> Iterator[Any]:
    for name, files in FILES.items():
        for file in files:
            text = (client_environments.CHECKS / file).read_text(encoding="utf-8")
            for check in re.findall(r"^(?:async function|def) (check_\w+)", text, flags=re.MULTILINE):
                yield pytest.param(name, file, check, marks=needs_bwrap if "riza" in file else ())


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running(executes=True) as server:
        yield server


@pytest.fixture(scope="module")
def reports(live: Live) -> Callable[[str, str], Reports]:
    """Run a file of checks, once."""

    @cache
    def run(name: str, file: str) -> Reports:
        path = client_environments.CHECKS / file
        if path.suffix == ".mjs":
            command = ["node", shutil.copy(path, environment(name))]  # packages are looked for beside it
        else:
            command = [python_of(name), path.with_name("run_checks.py"), path.stem]
        lines = map(json.loads, client_environments.run(*command, url=live.url).splitlines())
        return {line["check"]: line["error"] for line in lines}

    return run


@pytest.mark.parametrize(("name", "file", "check"), cases())
def test_client(reports: Callable[[str, str], Reports], name: str, file: str, check: str) -> None:
    error = reports(name, file)[check]
    assert error is None, error


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_the_examples_of_the_readme_work(live: Live, example: str) -> None:
    python = python_of(OF_PACKAGE[example.split()[1].split(".")[0]])
    code = example.replace("http://127.0.0.1:8000", live.url).replace('"local"', repr(KEY))
    assert client_environments.run(python, "-c", code, url=live.url).strip()
