"""exec_python: what a model is told of the program that it wrote."""

import subprocess
import sys

import pytest

from mistral_local.errors import SandboxUnavailableError
from mistral_local.tools import sandbox
from mistral_local.tools.call import ToolCall
from mistral_local.tools.dispatch import Dispatcher
from mistral_local.tools.exec_python import check_sandbox, make_exec_python
from mistral_local.tools.registry import ToolRegistry


@pytest.mark.bwrap
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("print(sum(range(10)))", "45\n"),
        ("x = 1", "(the program printed nothing)"),
        ("print('a'); raise SystemExit(3)", "a\nexit code 3"),
        ("while True: pass", "[stopped after 1 s]\nexit code 124"),
    ],
)
def test_the_model_is_told_what_was_printed_or_what_went_wrong(code: str, told: str) -> None:
    check_sandbox()
    assert make_exec_python(timeout_s=1)(code) == told


@pytest.mark.bwrap
def test_an_error_of_the_program_ends_with_its_traceback() -> None:
    told = make_exec_python()("print(1)\n1/0")
    assert told.startswith("1\nTraceback")
    assert told.endswith("ZeroDivisionError: division by zero\nexit code 1")


@pytest.mark.bwrap
def test_the_command_runs_what_the_model_writes_and_streams_the_answer() -> None:
    start = "import sys; from mistral_local.cli.entry import chat; sys.exit(chat())"
    flags = ["-i", "--python", "--approve", "auto", "--temperature", "0", "--max_tokens", "300"]
    question = "What are the first 50 Fibonacci numbers?"
    done = subprocess.run(
        [sys.executable, "-c", start, *flags, "-p", question],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "exec_python\n  code:\n" in done.stderr
    assert "12586269025" in done.stderr or "7778742049" in done.stderr
    assert "0, 1, 1, 2, 3, 5, 8" in done.stdout
    assert "exec_python" not in done.stdout


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(code: str, **limits: object) -> None:
        raise SandboxUnavailableError("no sandbox: bubblewrap is not installed")

    monkeypatch.setattr(sandbox, "run", unavailable)
    with pytest.raises(SandboxUnavailableError):
        check_sandbox()
    registry = ToolRegistry([make_exec_python()])
    call = ToolCall("abcdefghi", "exec_python", '{"code": "import sys; sys.ran = True"}')
    (result,) = Dispatcher(registry, timeout_s=5, max_chars=1000).run([call])
    assert (result.content, result.is_error) == ("error: no sandbox: bubblewrap is not installed", True)
    assert not hasattr(sys, "ran")
