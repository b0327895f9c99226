"""run and arun: what goes in and what comes out."""

import asyncio
import os
import threading
import time

import pytest

from mistral_local.errors import RequestError, UsageError
from mistral_local.tools.sandbox import ExecResult, Sandbox, arun, run

pytestmark = [pytest.mark.bwrap, pytest.mark.usefixtures("nothing_left")]


def outcome(result: ExecResult) -> tuple[str, str, int]:
    assert not result.timed_out
    assert not result.truncated
    return result.stdout, result.stderr, result.exit_code


def test_a_program_prints_and_ends() -> None:
    result = run("print(1 + 1)")
    assert outcome(result) == ("2\n", "", 0)
    assert 0 < result.duration < 30
    assert result.files == {}
    assert result.files_left_out == ()


@pytest.mark.parametrize(
    ("code", "stderr", "exit_code"),
    [
        ("import sys; sys.exit(3)", "", 3),
        ("import sys; sys.exit('no')", "no\n", 1),
        ("import os; os._exit(4)", "", 4),
        ("import os; os.kill(os.getpid(), 9)", "", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "", 143),
        ("import os; os.abort()", "", 134),
        ("raise SystemExit", "", 0),
    ],
)
def test_exit_codes_and_signals_are_positive(code: str, stderr: str, exit_code: int) -> None:
    assert outcome(run(code)) == ("", stderr, exit_code)


def test_a_traceback_shows_the_program_and_not_the_runner() -> None:
    expected = 'Traceback (most recent call last):\n  File "/run/main.py", line 2, in <module>\n    1 / 0\n    ~~^~~\n'
    assert outcome(run("x = 1\n1 / 0")) == ("", f"{expected}ZeroDivisionError: division by zero\n", 1)


@pytest.mark.parametrize(
    ("code", "message"),
    [("x =", "SyntaxError: invalid syntax"), ("print('a\0b')", "null bytes"), ("print('\ud800')", "surrogates")],
)
def test_text_that_is_no_program_is_reported_by_python(code: str, message: str) -> None:
    stdout, stderr, exit_code = outcome(run(f"print('never')\n{code}"))
    assert (stdout, exit_code) == ("", 1)
    assert message in stderr
    assert "runner.py" not in stderr


def test_the_program_is_the_main_module_as_in_a_script() -> None:
    code = """
import __main__, atexit, dataclasses, pickle, sys, threading, time
@dataclasses.dataclass
class Point:
    x: int
assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
assert __main__.Point is Point and __name__ == "__main__"
assert __file__ == "/run/main.py" and sys.argv == ["main.py"]
assert "_run" not in globals() and "runner" not in sys.modules
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
sys.excepthook = lambda *error: print("hook", error[0].__name__)
raise KeyError
"""
    assert outcome(run(code)) == ("hook KeyError\nthread\nat exit\n", "", 1)


def test_an_encoding_declaration_changes_nothing() -> None:
    assert outcome(run("# -*- coding: latin-1 -*-\nprint('é', '𝄞')")) == ("é 𝄞\n", "", 0)


def test_output_that_is_not_utf8_is_replaced() -> None:
    assert outcome(run("import os; os.write(1, b'a\\xffb')")) == ("a\ufffdb", "", 0)


@pytest.mark.parametrize(("stdin", "shown"), [(None, "''"), ("a\nb", "'a\\nb'"), (b"\xc3\xa9", "'é'")])
def test_standard_input_is_what_was_given(stdin: str | bytes | None, shown: str) -> None:
    assert outcome(run("import sys; print(repr(sys.stdin.read()))", stdin=stdin)) == (f"{shown}\n", "", 0)


def test_files_go_in_and_only_new_or_changed_ones_come_out() -> None:
    code = """
from pathlib import Path
text = Path("in.txt").read_text()
Path("out.txt").write_text(text.upper())
Path("changed.bin").write_bytes(bytes(3))
"""
    result = run(code, files={"in.txt": b"text", "changed.bin": b"", "ünï.txt": b"x"})
    assert outcome(result) == ("", "", 0)
    assert result.files == {"out.txt": b"TEXT", "changed.bin": bytes(3)}


def test_files_come_out_of_a_program_that_was_stopped() -> None:
    result = run("open('a', 'w').write('x')\nwhile True: pass", timeout=0.7)
    assert result.timed_out
    assert result.files == {"a": b"x"}


def test_files_that_are_not_plain_are_left_out_with_the_reason() -> None:
    code = """
import os
open("plain", "w").write("x")
os.symlink("/etc/passwd", "link")
os.symlink("plain", "link_inside")
os.link("plain", "second")
os.mkdir("folder")
open(b"bad\\xff", "w").write("x")
open("closed", "w").write("x")
os.chmod("closed", 0)
os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY), 600_000)
os.truncate(os.open("sparse2", os.O_CREAT | os.O_WRONLY), 600_000)
"""
    result = run(code, disk_mb=1)
    assert outcome(result) == ("", "", 0)
    assert set(result.files) - {"closed"} == {"sparse"}
    reasons = dict(sentence.split(": ", 1) for sentence in result.files_left_out)
    assert reasons.pop("closed", "cannot be opened (Permission denied)") == "cannot be opened (Permission denied)"
    assert reasons == {
        "plain": "has a second name (hard link)",
        "second": "has a second name (hard link)",
        "link": "cannot be opened (Too many levels of symbolic links)",
        "link_inside": "cannot be opened (Too many levels of symbolic links)",
        "folder": "is not a regular file",
        "bad\\udcff": "its name is not UTF-8",
        "sparse2": "its 600000 bytes are more than may be returned",
    }


def test_many_files_are_counted_and_said_to_be_left_out() -> None:
    result = run("for i in range(70): open(f'{i:03}', 'w').close()")
    assert sorted(result.files) == [f"{i:03}" for i in range(64)]
    assert list(result.files_left_out) == [f"{i:03}: more than 64 files" for i in range(64, 70)]


def test_variables_go_in_and_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    stdout, _, _ = outcome(run("import os; print(sorted(os.environ)); print(os.environ['A'])", env={"A": "b c"}))
    names, value = stdout.splitlines()
    assert value == "b c"
    expected = {"A", "HOME", "LANG", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PWD"}
    assert set(eval(names)) - {"LD_LIBRARY_PATH"} == expected | {"TMPDIR"}


def test_a_deadline_is_124_and_keeps_the_output() -> None:
    result = run("print('so far', flush=True)\nwhile True: pass", timeout=0.7)
    assert (result.stdout, result.exit_code, result.timed_out) == ("so far\n", 124, True)
    assert result.stderr == "[stopped after 0.7 s]\n"
    assert result.duration < 3


def test_too_much_output_stops_the_program() -> None:
    result = run("import sys\nwhile True: sys.stderr.write('x' * 100)", max_output=1000, timeout=20)
    assert (result.exit_code, result.truncated, result.timed_out) == (137, True, False)
    assert result.stderr == "x" * 1000 + "\n[stopped: it wrote more than 1000 bytes]\n"
    exact = run("print('x' * 999)", max_output=1000)
    assert (len(exact.stdout), exact.truncated, exact.exit_code) == (1000, False, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 0}, "timeout: expected seconds above 0, got 0"),
        ({"timeout": float("nan")}, "timeout: expected seconds above 0, got nan"),
        ({"memory_mb": 32}, "memory_mb: expected an integer of at least 64, got 32"),
        ({"max_output": -1}, "max_output: expected an integer of at least 0, got -1"),
        ({"disk_mb": 0.5}, "disk_mb: expected an integer of at least 1, got 0.5"),
        ({"pids": 0}, "pids: expected an integer of at least 1, got 0"),
        ({"files": {"a/b": b""}}, "files: expected a plain file name without a folder, got 'a/b'"),
        ({"files": {"..": b""}}, "files: expected a plain file name without a folder, got '..'"),
        ({"files": {"a": bytes(2 << 20)}, "disk_mb": 1}, "files: 2097152 bytes do not fit into disk_mb = 1"),
        ({"files": {str(i): b"" for i in range(65)}}, "files: at most 64, got 65"),
        ({"files": {"a": "text"}}, "files: expected bytes as the content of a, got str"),
        ({"env": {"A=B": "c"}}, "env: 'A=B' cannot be a variable with this value"),
        ({"env": {"LD_PRELOAD": "c"}}, "env: LD_PRELOAD would change how the interpreter itself is loaded"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as error:
        run("print(1)", **arguments)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_code_must_be_text() -> None:
    with pytest.raises(RequestError, match="code: expected text, got bytes"):
        run(b"print(1)")  # type: ignore[arg-type]


def test_no_more_than_max_parallel_run_at_once() -> None:
    sandbox = Sandbox(max_parallel=2)
    spans: list[tuple[float, float]] = []

    def one() -> None:
        result = sandbox.run("import time; time.sleep(0.4)")
        spans.append((time.monotonic() - result.duration, time.monotonic()))

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    most = max(sum(start <= at < end for start, end in spans) for at, _ in spans)
    assert most == 2
    with pytest.raises(UsageError, match="max_parallel: expected at least 1, got 0"):
        Sandbox(max_parallel=0)


def test_eight_at_once_do_not_disturb_each_other() -> None:
    async def eight() -> list[ExecResult]:
        sandbox = Sandbox(max_parallel=8)
        code = "import time; open('f', 'w').write(str({0})); time.sleep(.3); print({0}, open('f').read())"
        return await asyncio.gather(*(sandbox.arun(code.format(i)) for i in range(8)))

    results = asyncio.run(eight())
    assert [outcome(result) for result in results] == [(f"{i} {i}\n", "", 0) for i in range(8)]


def test_arun_leaves_the_event_loop_free() -> None:
    async def count() -> tuple[int, ExecResult]:
        running = asyncio.create_task(arun("import time; time.sleep(0.5); print('done')"))
        ticks = 0
        while not running.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, await running

    ticks, result = asyncio.run(count())
    assert outcome(result) == ("done\n", "", 0)
    assert ticks > 10


def test_cancelling_arun_kills_the_program() -> None:
    async def cancel() -> float:
        sandbox = Sandbox(max_parallel=1)
        await sandbox.arun("pass")
        running = asyncio.create_task(sandbox.arun("import time; time.sleep(60)"))
        waiting = asyncio.create_task(sandbox.arun("print('never')"))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        for task in (waiting, running):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await sandbox.arun("print('next')")).stdout == "next\n"
        return time.monotonic() - started

    assert asyncio.run(cancel()) < 10


def test_a_hundred_short_deadlines_leave_no_orphan() -> None:
    results = [run("while True: pass", timeout=0.001 + 0.0006 * i) for i in range(100)]
    assert {(result.timed_out, result.exit_code) for result in results} == {(True, 124)}


def test_an_interrupt_kills_the_program_and_is_passed_on() -> None:
    def interrupt() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), 2)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run("import time; time.sleep(60)")
