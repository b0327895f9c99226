"""The start-up module that points Python's `mistralai` to a local server, in interpreters of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mistral_local.clients.variables import STARTUP, client_variables

URL = "http://127.0.0.1:8000"
CONFIGURATION = "SERVERS = {'eu': 'https://hosted'}\n"
CLIENT = "from .sdkconfiguration import SERVERS\nclass Mistral:\n    def __init__(self): self.url = SERVERS['eu']\n"


def write(folder: Path, **files: str) -> Path:
    """Write modules: `a__b` is a/b.py."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture(params=["1.x", "3.x"])
def client(request: Any, tmp_path: Path) -> Path:
    """A folder with a `mistralai` of the layout of 1.x, or of 2.x and later."""
    package = tmp_path / "clients" / "mistralai"
    folder = package if request.param == "1.x" else package / "client"
    write(folder, init=CLIENT, sdkconfiguration=CONFIGURATION)
    (folder / "init.py").rename(folder / "__init__.py")
    return package.parent


def python(code: str, *path: Path, flags: tuple[str, ...] = (), **variables: str) -> str:
    """What a program prints, on both streams."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MISTRAL"))}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    environment |= {"MISTRAL_LOCAL_URL": URL} | variables
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_the_client_of_both_layouts_asks_the_local_server(client: Path) -> None:
    code = "from mistralai import Mistral; print(Mistral().url)"
    assert python(code, STARTUP, client) == f"{URL}\n"
    assert python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])", STARTUP, client) == (
        f"{URL}\n"
    )


def test_without_the_address_the_client_is_as_it_was(client: Path) -> None:
    code = "from mistralai import Mistral; print(Mistral().url)"
    assert python(code, STARTUP, client, MISTRAL_LOCAL_URL="") == "https://hosted\n"
    assert URL not in python(code, STARTUP, client, flags=("-I",))


def test_the_namespace_package_offers_the_one_name_and_stays_a_namespace(tmp_path: Path) -> None:
    write(tmp_path, mistralai__client__sdkconfiguration=CONFIGURATION, mistralai__client__sdk=CLIENT)
    (tmp_path / "mistralai" / "client" / "sdk.py").rename(tmp_path / "mistralai" / "client" / "__init__.py")
    write(tmp_path / "more", mistralai__extra="")  # of another distribution
    code = (
        "import sys, mistralai\n"
        "assert 'mistralai.client' not in sys.modules\n"
        "from mistralai import extra, client\n"
        "print(mistralai.Mistral is client.Mistral, hasattr(mistralai, 'UserMessage'), client.__loader__.get_source('mistralai.client') != '')\n"
        "from mistralai import nothing"
    )
    printed = python(code, STARTUP, tmp_path, tmp_path / "more")
    assert printed.startswith("True False True\n")
    assert "ImportError: cannot import name 'nothing' from 'mistralai'" in printed


def test_programs_that_do_not_use_the_client_load_nothing_more() -> None:
    code = "import sys; print(*sorted(sys.modules))"
    modules, without = set(python(code, STARTUP).split()), set(python(code).split())
    assert modules - without <= {"sitecustomize"}
    finders = python("import sys; print(len(sys.meta_path))", STARTUP), python("import sys; print(len(sys.meta_path))")
    assert int(finders[0]) == int(finders[1]) + 1


def test_another_sitecustomize_runs_too(tmp_path: Path) -> None:
    other = write(tmp_path, sitecustomize="import sys\nsys.path.append('/added')\nX = 1\n")
    code = "import sys, sitecustomize; print(sitecustomize.X, sitecustomize.__file__, '/added' in sys.path)"
    assert python(code, STARTUP, other) == f"1 {other / 'sitecustomize.py'} True\n"
    assert python(code, other, STARTUP) == f"1 {other / 'sitecustomize.py'} True\n"


def test_a_sitecustomize_that_fails_does_so_as_without_us(tmp_path: Path, client: Path) -> None:
    other = write(tmp_path, sitecustomize="raise RuntimeError('its own fault')")
    code = "from mistralai import Mistral; print(Mistral().url)"
    printed = python(code, STARTUP, other, client)
    assert "Error in sitecustomize" in printed
    assert "its own fault" in printed
    assert URL in printed


@pytest.mark.parametrize("given", [None, "", "/a", ":/a", f"/a:{STARTUP}:/b", str(STARTUP)])
def test_pythonpath_begins_with_the_module_once_and_keeps_the_rest(given: str | None) -> None:
    environment = {} if given is None else {"PYTHONPATH": given}
    changed = client_variables(URL, "k", environment)["PYTHONPATH"].split(":")
    assert changed == [str(STARTUP), *[path for path in (given or "").split(":") if path != str(STARTUP) and given]]


def test_a_proxy_is_not_asked_for_this_machine() -> None:
    proxied = {"HTTP_PROXY": "http://proxy", "NO_PROXY": "example.org"}
    assert client_variables(URL, "k", proxied, bypasses_proxy=True)["no_proxy"] == "127.0.0.1,example.org"
    assert "no_proxy" not in client_variables(URL, "k", proxied)
    assert "no_proxy" not in client_variables(URL, "k", {}, bypasses_proxy=True)


def test_every_client_gets_the_address_in_its_own_form_and_the_key() -> None:
    variables = client_variables(URL, "the-key", {})
    assert variables["OPENAI_BASE_URL"] == f"{URL}/v1"
    assert {variables[name] for name in ("RIZA_BASE_URL", "AZURE_INFERENCE_ENDPOINT", "MISTRAL_LOCAL_URL")} == {URL}
    keys = ("OPENAI_API_KEY", "MISTRAL_API_KEY", "RIZA_API_KEY", "AZURE_INFERENCE_CREDENTIAL")
    assert {variables[name] for name in keys} == {"the-key"}
