"""Sessions: what one program leaves the next one finds, until the interpreter ends."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator

import pytest

from mistral_local.errors import RequestError, SandboxError
from mistral_local.tools.sandbox import Sandbox, Session

pytestmark = [pytest.mark.bwrap, pytest.mark.usefixtures("nothing_left")]

GONE = "[the session has ended: its variables and files are gone]\n"


@pytest.fixture
def session() -> Iterator[Session]:
    with Sandbox().session(timeout=10) as session:
        yield session


def test_variables_functions_and_imports_stay(session: Session) -> None:
    session.run("import math\nx = 5\ndef twice(n): return 2 * n\nprint('first')")
    result = session.run("print(twice(x), math.floor(2.5))")
    assert (result.stdout, result.stderr, result.exit_code) == ("10 2\n", "", 0)


def test_each_program_has_its_own_output_and_status(session: Session) -> None:
    first = session.run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (first.stdout, first.stderr, first.exit_code) == ("out\n", "err\n", 3)
    second = session.run("sys.stdout.write('no newline')")
    assert (second.stdout, second.stderr, second.exit_code) == ("no newline", "", 0)
    third = session.run("sys.exit('sorry')")
    assert (third.stdout, third.stderr, third.exit_code) == ("", "sorry\n", 1)


def test_an_exception_leaves_the_state_and_shows_the_line(session: Session) -> None:
    result = session.run("x = 1\nx / 0")
    assert result.exit_code == 1
    assert result.stderr == (
        'Traceback (most recent call last):\n  File "<cell 1>", line 2, in <module>\n    x / 0\n    ~~^~~\n'
        "ZeroDivisionError: division by zero\n"
    )
    assert session.run("x +").exit_code == 1
    assert session.run("print('\ud800')").exit_code == 1
    assert session.run("print(x)").stdout == "1\n"


def test_files_stay_and_only_what_changed_comes_back(session: Session) -> None:
    first = session.run("open('b', 'w').write(open('a').read() * 2)", files={"a": b"x"})
    assert first.files == {"b": b"xx"}
    assert session.run("pass").files == {}
    assert session.run("open('a', 'w').write('new')").files == {"a": b"new"}
    assert session.run("print(open('a').read(), open('b').read())", files={"a": b"y"}).stdout == "y xx\n"


def test_files_never_follow_what_the_program_left(session: Session) -> None:
    result = session.run("import os\nos.symlink('/home/sandbox/other', 'link')\nos.mkdir('folder')")
    assert result.files == {}
    assert session.run("print(os.path.islink('link'), os.listdir())", files={"link": b"x"}).stdout.startswith("False")
    with pytest.raises(RequestError, match="files: cannot write folder: Is a directory"):
        session.run("pass", files={"folder": b"x"})
    assert session.run("print('state is', os.name)").stdout == "state is posix\n"


def test_a_deadline_ends_the_session_and_the_next_program_starts_afresh(session: Session) -> None:
    session.run("x = 1; open('f', 'w').write('f')")
    stopped = session.run("print('so far', flush=True)\nopen('g', 'w').write('g')\nwhile True: pass", timeout=0.7)
    assert (stopped.stdout, stopped.exit_code, stopped.timed_out) == ("so far\n", 124, True)
    assert stopped.stderr == f"[stopped after 0.7 s]\n{GONE}"
    assert stopped.files == {"g": b"g"}
    fresh = session.run("import os; print('x' in globals(), os.listdir())")
    assert fresh.stdout == "False []\n"


def test_too_much_output_ends_the_session() -> None:
    with Sandbox().session(max_output=1000, timeout=10) as session:
        assert session.run("print('x' * 999)").exit_code == 0
        assert session.run("print('x' * 999)").exit_code == 0  # the limit is one program's
        result = session.run("x = 1\nwhile True: print('x' * 100)")
        assert (len(result.stdout), result.truncated, result.exit_code) == (1000, True, 137)
        assert result.stderr == f"[stopped: it wrote more than 1000 bytes]\n{GONE}"
        assert session.run("print(x)").exit_code == 1


@pytest.mark.parametrize(("code", "exit_code"), [("import os; os._exit(7)", 7), ("import os; os.kill(2, 9)", 137)])
def test_a_program_that_kills_its_interpreter_ends_the_session(session: Session, code: str, exit_code: int) -> None:
    session.run("x = 1")
    result = session.run(code)
    assert (result.exit_code, result.stderr) == (exit_code, GONE)
    assert session.run("print('x' in globals())").stdout == "False\n"


def test_an_idle_session_ends_by_itself() -> None:
    with Sandbox(max_sessions=1).session(idle_timeout=0.3) as session:
        session.run("x = 1")
        assert session.run("print(x)").stdout == "1\n"
        time.sleep(1)
        assert session.run("print('x' in globals())").stdout == "False\n"


def test_the_limits_are_those_of_a_single_program() -> None:
    with Sandbox().session(memory_mb=100, disk_mb=1, pids=3, env={"A": "b"}) as session:
        result = session.run("import os; print(os.environ['A'])\nbytearray(200 << 20)")
        assert result.stdout == "b\n"
        assert result.stderr.endswith("MemoryError\n")
        assert (
            "No space left"
            in session.run("open('a', 'wb').write(bytes(1 << 20)); open('b', 'wb', buffering=0).write(b'x')").stderr
        )
        code = "import threading\ne = threading.Event()\nfor _ in range(3): threading.Thread(target=e.wait, daemon=True).start()"
        assert "can't start new thread" in session.run(code).stderr
        assert "Operation not permitted" in session.run("import os; os.fork()").stderr


def test_no_more_sessions_than_allowed_hold_memory() -> None:
    sandbox = Sandbox(max_sessions=1)
    with sandbox.session() as first, sandbox.session() as second:
        first.run("x = 1")
        with pytest.raises(SandboxError, match="too many sandbox sessions"):
            second.run("pass")
        assert first.run("print(x)").stdout == "1\n"
        first.close()
        assert second.run("print(2)").stdout == "2\n"


def test_a_closed_session_refuses() -> None:
    session = Sandbox().session()
    session.run("x = 1")
    session.close()
    session.close()
    with pytest.raises(SandboxError, match="the session is closed"):
        session.run("print(x)")
    with pytest.raises(RequestError, match="idle_timeout: expected seconds above 0, got 0"):
        Sandbox().session(idle_timeout=0)


def test_programs_of_one_session_run_one_after_the_other(session: Session) -> None:
    async def several() -> list[str]:
        session.run("total = 0")
        await asyncio.gather(
            *(session.arun("import time; t = total; time.sleep(.05); total = t + 1") for _ in range(5))
        )
        return [(await session.arun("print(total)")).stdout]

    assert asyncio.run(several()) == ["5\n"]


def test_cancelling_a_program_ends_the_session(session: Session) -> None:
    async def cancel() -> None:
        await session.arun("x = 1")
        task = asyncio.create_task(session.arun("import time; time.sleep(60)"))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(cancel())
    assert time.monotonic() - started < 8
    assert session.run("print('x' in globals())").stdout == "False\n"


def test_an_interrupt_stops_the_program(session: Session) -> None:
    session.run("x = 1")
    threading.Thread(target=lambda: (time.sleep(0.5), os.kill(os.getpid(), 2))).start()
    with pytest.raises(KeyboardInterrupt):
        session.run("import time; time.sleep(60)")
    assert session.run("print('x' in globals())").stdout == "False\n"


def test_lies_on_the_control_socket_hurt_only_the_session(session: Session) -> None:
    lie = """
import os
for fd in range(3, 64):
    try: os.write(fd, b"\\xff\\xff\\xff\\x07" * 3)
    except OSError: pass
"""
    assert session.run(lie).exit_code == 7
    assert session.run("print(1)").exit_code in (0, 7)
    closes = "import os\nfor fd in range(3, 64):\n    try: os.close(fd)\n    except OSError: pass"
    with Sandbox().session(timeout=1) as other:
        result = other.run(closes)
        assert GONE in result.stderr
        assert other.run("print(2)").stdout == "2\n"


def test_descriptors_sent_over_the_control_socket_are_dropped(session: Session) -> None:
    before = len(os.listdir("/proc/self/fd"))
    code = """
import _socket, os
for fd in range(3, 64):
    try: s = _socket.socket(fileno=fd)
    except OSError: continue
    s.sendmsg([b"\\0\\0\\0\\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, os.open(".", 0).to_bytes(4, "little"))])
    s.detach()
"""
    session.run("pass")
    opened = len(os.listdir("/proc/self/fd"))
    session.run(code)
    session.run("pass")
    assert len(os.listdir("/proc/self/fd")) == opened > before
