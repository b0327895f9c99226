"""The WebAssembly backend: what it keeps of the sandbox's promises, and its gaps, so that the documentation stays true.

Needs an interpreter >= 3.12 with pyeryx: this one, or the one that MISTRAL_LOCAL_WASM_PYTHON names.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mistral_local.errors import SandboxUnavailableError, UsageError
from mistral_local.tools.sandbox import ExecResult, Sandbox
from mistral_local.tools.sandbox import wasm as wasm_module

PYTHON = os.environ.get("MISTRAL_LOCAL_WASM_PYTHON") or sys.executable
HAS_PYERYX = subprocess.run([PYTHON, "-I", "-c", "import eryx"], capture_output=True).returncode == 0
needs_pyeryx = pytest.mark.skipif(not HAS_PYERYX, reason=f"{PYTHON} has no pyeryx; its wheels need Python 3.12")


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(backend="wasm", python=PYTHON)


def outcome(result: ExecResult) -> tuple[str, int]:
    assert not result.timed_out
    assert not result.truncated
    return result.stdout, result.exit_code


@needs_pyeryx
@pytest.mark.parametrize(
    ("code", "stdout", "exit_code"),
    [
        ("print(1 + 1)", "2\n", 0),
        ("import sys; sys.exit(3)", "", 3),
        ("import sys; sys.exit('no')", "", 1),
        ("1 / 0", "", 1),
        ("x =", "", 1),
        ("print('a\0b')", "", 1),
        ("print('\ud800')", "", 1),
        ("import os; os.write(1, b'raw\\xff')", "raw\ufffd", 0),
        ("import sys; print(repr(sys.stdin.read()))", "''\n", 0),
        ("import json, math, re, random, statistics, decimal, datetime; print(statistics.mean([1, 2]))", "1.5\n", 0),
        ("import sqlite3; print(sqlite3.connect(':memory:').execute('select 1').fetchone())", "(1,)\n", 0),
        ("import pickle\nclass P: pass\nprint(type(pickle.loads(pickle.dumps(P()))) is P)", "True\n", 0),
        ("print('π ≈ 3.14159, 数学 𝄞')", "π ≈ 3.14159, 数学 𝄞\n", 0),
        ("try: bytearray(1 << 30)\nexcept MemoryError: print('caught')", "caught\n", 0),
        ("a, b = 0, 1\nfor _ in range(50): a, b = b, a + b\nprint(a)", "12586269025\n", 0),
    ],
)
def test_programs_end_as_they_would_anywhere(sandbox: Sandbox, code: str, stdout: str, exit_code: int) -> None:
    assert outcome(sandbox.run(code)) == (stdout, exit_code)


@needs_pyeryx
def test_a_traceback_shows_only_the_program(sandbox: Sandbox) -> None:
    result = sandbox.run("x = 1\nx / 0")
    assert result.stderr.splitlines()[:3] == [
        "Traceback (most recent call last):",
        '  File "main.py", line 2, in <module>',
        "    x / 0",
    ]


@needs_pyeryx
def test_input_files_and_variables_go_in_and_new_files_come_out(sandbox: Sandbox) -> None:
    code = "import os, sys; open('out', 'w').write(sys.stdin.read() + open('in').read() + os.environ['A'])"
    result = sandbox.run(code, stdin="é ", files={"in": b"b "}, env={"A": "c"})
    assert outcome(result) == ("", 0)
    assert result.files == {"out": "é b c".encode()}


@needs_pyeryx
@pytest.mark.parametrize(
    "attack",
    [
        "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2); print('LEAK')",
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print('LEAK')",
        "print('LEAK', open('/etc/passwd').read())",
        "print('LEAK', open('../../../../..{secret}').read())",
        "print('LEAK', open('{secret}').read())",
        "import os; print('LEAK', os.listdir('/proc'))",
        "import os; print('LEAK' if 'SECRET_OF_THE_HOST' in os.environ else '')",
        "import os; os.fork(); print('LEAK')",
        "import subprocess; subprocess.run(['/bin/ls']); print('LEAK')",
        "import os; os.symlink('/etc/passwd', 'link'); print('LEAK', open('link').read())",
        "import os; os.kill(1, 0); print('LEAK')",
        "import ctypes; print('LEAK')",
        "open('big', 'wb').write(bytes(9 << 20)); print('LEAK')",
        "x = [bytearray(10 << 20) for _ in range(60)]; print('LEAK')",
        "open('/python-stdlib/os.py', 'a').write('x'); print('LEAK')",
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'x'); print('LEAK', fd)\n    except OSError: pass",
    ],
)
def test_an_attack_fails(sandbox: Sandbox, attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    secret = tmp_path / "secret"
    secret.write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = attack.replace("{secret}", str(secret)).replace("{port}", str(server.getsockname()[1]))
        result = sandbox.run(f"print('BEGIN')\n{code}", memory_mb=256, disk_mb=8, timeout=20)
    assert result.stdout.startswith("BEGIN\n")
    assert "LEAK" not in result.stdout


@needs_pyeryx
def test_a_deadline_and_a_flood_stop_the_program(sandbox: Sandbox) -> None:
    late = sandbox.run("print('so far', flush=True)\nwhile True: pass", timeout=1.5)
    assert (late.stdout, late.stderr, late.exit_code, late.timed_out) == (
        "so far\n",
        "[stopped after 1.5 s]\n",
        124,
        True,
    )
    flood = sandbox.run("while True: print('x' * 99)", max_output=1000)
    assert (len(flood.stdout), flood.truncated, flood.exit_code) == (1000, True, 137)


@needs_pyeryx
def test_a_fault_of_the_interpreter_ends_the_worker_and_not_us(sandbox: Sandbox) -> None:
    result = sandbox.run("import sys; sys.setrecursionlimit(10**7)\ndef f(): f()\nf()")
    assert result.exit_code == 134
    assert sandbox.run("print(2)").stdout == "2\n"


@needs_pyeryx
def test_lies_about_the_outcome_are_checked(sandbox: Sandbox) -> None:
    lie = """
import sys
frame = sys._getframe()
while frame: top, frame = frame, frame.f_back
outer = sys._getframe(2).f_globals
import base64
outer["_files"] = lambda *a: {"../x": base64.b64encode(b"x").decode(), "ok": "eA==", "no": 5, "bad": "%"}
"""
    result = sandbox.run(lie)
    assert dict(result.files) == {"ok": b"x"}
    assert wasm_module._read_outcome(["nonsense"], 10) == (1, {})
    assert wasm_module._read_outcome({"exit_code": 3, "files": {"a": "eHh4"}}, 2) == (3, {})


@needs_pyeryx
def test_cancelling_kills_the_worker(sandbox: Sandbox) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(sandbox.arun("import time; time.sleep(60)"))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(cancel())
    assert time.monotonic() - started < 8


@needs_pyeryx
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import threading; threading.Thread(target=print).start()", "can't start new thread"),
        ("import asyncio\nasync def f(): pass\nasyncio.run(f())", "running event loop"),
        ("import bz2", "_bz2"),
        ("import lzma", "_lzma"),
        ("import ctypes", "_ctypes"),
        ("import numpy", "numpy"),
        ("import zoneinfo; zoneinfo.ZoneInfo('Europe/Paris')", "No time zone found"),
    ],
)
def test_gaps_are_as_documented(sandbox: Sandbox, code: str, error: str) -> None:
    result = sandbox.run(code)
    assert result.exit_code == 1
    assert error in result.stderr


@needs_pyeryx
def test_statuses_beside_sys_exit_are_lost(sandbox: Sandbox) -> None:
    assert sandbox.run("import os; os._exit(4)").exit_code == 1


@needs_pyeryx
def test_what_pyeryx_unpacks_can_be_changed_by_nobody_else_and_goes_with_us() -> None:
    code = """
import os
from mistral_local.tools.sandbox import Sandbox
sandbox = Sandbox(backend="wasm", python=os.environ["PYTHON"])
assert sandbox.run("print(1)").stdout == "1\\n"
folder = sandbox._backend._place.environment["TMPDIR"]
for where, folders, files in os.walk(folder):
    for name in [where, *(os.path.join(where, file) for file in files)]:
        assert os.stat(name).st_uid == os.geteuid() and not os.stat(name).st_mode & 0o022, name
print(folder)
"""
    environment = {**os.environ, "PYTHON": PYTHON}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert not Path(done.stdout.strip()).exists()


def test_without_pyeryx_nothing_runs_and_the_fix_is_named() -> None:
    with pytest.raises(SandboxUnavailableError) as error:
        Sandbox(backend="wasm", python="/usr/bin/python3").run("print(1)")
    assert "pip install 'mistral_local[wasm]'" in str(error.value)


def test_a_backend_that_is_not_there_and_sessions_are_refused() -> None:
    with pytest.raises(UsageError, match="--sandbox: expected bubblewrap or wasm, got 'none'"):
        Sandbox(backend="none")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sessions need the bubblewrap backend"):
        Sandbox(backend="wasm").session()
