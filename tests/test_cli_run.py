"""mistral-local run and env: which server a program is pointed to, and that nothing stands between it and its user."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pexpect
import pytest
from processes import running_process

from mistral_local.cli import entry
from mistral_local.cli.find_server import Found, find_server

COMMAND = [sys.executable, "-c", "import sys; from mistral_local.cli.entry import local; sys.exit(local())"]
READY = {"status": "ready", "model": "m"}
LOCKED = {"object": "error", "code": "invalid_api_key"}


@contextmanager
def answering(answer: Callable[[str | None], tuple[int, Any]]) -> Iterator[str]:
    """Something that answers on a port; `answer` maps the key that it is shown to status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.headers.get("api-key"))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[str]:
    with answering(lambda _: (200, READY)) as url:
        yield url


@pytest.fixture
def nowhere() -> str:
    """An address where nobody answers."""
    with answering(lambda _: (200, READY)) as url:
        return url


@pytest.fixture(autouse=True)
def _without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MISTRAL_LOCAL_URL", "MISTRAL_LOCAL_API_KEY", "MISTRAL_MODEL", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def local(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
    )


def exported(text: str) -> dict[str, str]:
    """The variables of `mistral-local env`, as a shell reads them."""
    return dict(shlex.split(line)[1].split("=", 1) for line in text.splitlines())


class TestProgram:
    def test_it_gets_the_address_and_the_streams_and_gives_its_exit_code(self, server: str) -> None:
        code = "import os, sys; print(os.environ['OPENAI_BASE_URL'], input()); print('x', file=sys.stderr); sys.exit(7)"
        done = local("run", "--url", server, "--", sys.executable, "-c", code, stdin="from a pipe\n")
        assert (done.returncode, done.stdout, done.stderr) == (7, f"{server}/v1 from a pipe\n", "x\n")

    def test_its_arguments_are_its_own(self, server: str) -> None:
        words = ["--help", "--url", "-h", "--", "none", "", "a b"]
        code = "import sys; print(sys.argv[1:])"
        assert local("run", "--url", server, "--", sys.executable, "-c", code, *words).stdout == f"{words}\n"

    def test_death_by_a_signal_is_128_and_its_number(self, server: str) -> None:
        assert local("run", "--url", server, "--", "sh", "-c", "kill -9 $$").returncode == 137

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            ((), 2, "write the program after --"),
            (("--",), 2, "write the program after --"),
            (("python", "code.py"), 2, "write the program after --"),
            (("--", "no-such-program"), 127, "cannot run no-such-program: No such file or directory"),
            (("--", "./no/such"), 127, "cannot run ./no/such: No such file"),
            (("--", "/etc/passwd"), 126, "cannot run /etc/passwd: Permission denied"),
            (("--url", "127.0.0.1:8000", "--", "true"), 2, "--url: expected an address"),
            (("--url", "http://127.0.0.1:8000", ".", "--", "true"), 2, "DIR is for a server that is started"),
            (("--url", "http://[::1", "--", "true"), 2, "--url: expected an address"),
            (("./no/such", "--", "true"), 3, "no folder ./no/such"),
            (("--temperature", "9", "--", "true"), 2, "--temperature: expected 0 to 2"),
            (("--log_file", "/no/such", "--", "true"), 2, "--log_file /no/such: No such file"),
        ],
    )
    def test_what_cannot_be_run_is_one_line(
        self, arguments: tuple[str, ...], code: int, words: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            returned = entry.run_local(["run", *arguments])
        except SystemExit as error:
            returned = error.code  # type: ignore[assignment]
        finally:
            signal.signal(signal.SIGTERM, handler)
        out, err = capfd.readouterr()
        assert (returned, out) == (code, "")
        assert words in err
        assert err.startswith("Error: ")
        assert err.count("\n") == 1

    def test_a_reader_that_leaves_ends_it_as_without_us(self, server: str) -> None:
        line = f"{shlex.join([*COMMAND, 'run', '--url', server, '--', 'yes'])} | head -1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("y\n141\n", "")

    def test_open_files_reach_it(self, server: str, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("from a file")
        line = f"exec 9<{tmp_path}/text; {shlex.join([*COMMAND, 'run', '--url', server])} -- cat /dev/fd/9"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("from a file", "")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    def test_signals_that_come_from_programs_are_handed_on(self, server: str, number: signal.Signals) -> None:
        code = (
            "import signal, sys\n"
            f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n"
            "print('here', flush=True)\n"
            "while True: signal.pause()"
        )
        command = [*COMMAND, "run", "--url", server, "--", sys.executable, "-c", code]
        with running_process(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            process.send_signal(number)
            assert process.wait(20) == 42

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_ctrl_c_goes_to_it_once(self, server: str, tmp_path: Path) -> None:
        program = tmp_path / "program.py"
        program.write_text(
            "import time\n"
            "for turn in range(2):\n"
            "    try:\n"
            "        print('waiting', turn, flush=True)\n"
            "        time.sleep(20)\n"
            "    except KeyboardInterrupt:\n"
            "        time.sleep(0.3)\n"  # a second one would come now
            "raise SystemExit(5)\n"
        )
        words = [*COMMAND, "run", "--url", server, "--", sys.executable, str(program)]
        child = pexpect.spawn(words[0], words[1:], encoding="utf-8", timeout=20)
        for turn in range(2):
            child.expect_exact(f"waiting {turn}")
            child.send("\x03")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 5
        assert "Traceback" not in child.before


class TestServer:
    def test_a_key_is_shown_only_to_a_server_that_wants_it(self) -> None:
        shown: list[str | None] = []

        def answer(key: str | None) -> tuple[int, Any]:
            shown.append(key)
            return (200, READY) if key == "right" else (401, LOCKED)

        with answering(answer) as url:
            variables = exported(local("env", "--url", f"{url}/v1/", MISTRAL_LOCAL_API_KEY="right").stdout)
            assert variables["OPENAI_BASE_URL"] == f"{url}/v1"
            assert variables["OPENAI_API_KEY"] == "right"
            assert shown == [None, "right"]
            assert "has another key" in local("env", "--url", url, "--api_key", "wrong").stderr
            assert "needs its key" in local("run", "--url", url, "--", "true").stderr

    @pytest.mark.parametrize(("status", "body"), [(200, b"hello"), (404, b"{}"), (200, b"[1]"), (500, b"\xff")])
    def test_a_stranger_at_the_address_is_refused(self, status: int, body: bytes) -> None:
        with answering(lambda _: (status, body)) as url:
            done = local("run", "--url", url, "--", "true")
        assert done.returncode == 2
        assert done.stderr == f"Error: what answers at {url} is not mistral-serve\n"

    def test_the_address_may_come_from_the_environment_so_that_runs_nest(self, server: str) -> None:
        inner = [*COMMAND, "run", "--", "sh", "-c", "echo $RIZA_BASE_URL $PYTHONPATH"]
        done = local("run", "--url", server, "--", *inner)
        assert done.stderr == ""
        assert done.stdout.startswith(f"{server} ")
        assert done.stdout.count("clients/startup") == 1

    def test_env_is_for_a_shell_and_says_when_nobody_answers_yet(self, server: str, nowhere: str) -> None:
        line = f'eval "$({shlex.join([*COMMAND, "env", "--url", server])})"; echo "$AZURE_INFERENCE_ENDPOINT"'
        assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False).stdout == f"{server}\n"
        done = local("env", "--url", nowhere)
        assert done.returncode == 0
        assert f"no server answers at {nowhere} yet" in done.stderr
        assert exported(done.stdout)["MISTRAL_LOCAL_URL"] == nowhere


@pytest.mark.skipif(find_spec("fastapi") is None, reason="the extra `server` is not installed")
class TestOwnServer:
    ASK = (
        "import json, os, sys, urllib.request\n"
        "def ask(path, **body):\n"
        "    url, key = os.environ['MISTRAL_LOCAL_URL'], os.environ['MISTRAL_API_KEY']\n"
        "    headers = {'Content-Type': 'application/json', 'Authorization': f'Bearer {key}'}\n"
        "    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)\n"
        "    return json.load(urllib.request.urlopen(request))\n"
    )

    def test_one_is_started_if_nobody_answers_and_ends_with_the_program(self, nowhere: str, tmp_path: Path) -> None:
        code = (
            f"{self.ASK}"
            "body = {'messages': [{'role': 'user', 'content': 'Hello!'}], 'max_tokens': 8}\n"
            "texts = {ask('/v1/chat/completions', **body)['choices'][0]['message']['content'] for _ in range(2)}\n"
            "print(json.dumps([os.environ['MISTRAL_LOCAL_URL'], os.environ['MISTRAL_API_KEY'], *texts]))\n"
        )
        log = tmp_path / "server.log"
        done = local("run", "--log_file", str(log), "--", sys.executable, "-c", code, MISTRAL_LOCAL_URL=nowhere)
        assert (done.returncode, done.stderr) == (0, "")
        url, key, *texts = json.loads(done.stdout)
        assert url.startswith("http://127.0.0.1:")
        assert url != nowhere
        assert len(key) >= 24
        assert len(texts) == 1, "the demo checkpoint answers greedily"
        assert "POST /v1/chat/completions 200" in log.read_text()
        assert key not in log.read_text()
        assert find_server(url, None) is Found.NOTHING

    @pytest.mark.long
    def test_a_server_that_cannot_start_is_one_line_and_nothing_is_run(self, tmp_path: Path) -> None:
        done = local("run", str(tmp_path), "--", "touch", str(tmp_path / "ran"))
        assert done.returncode == 3
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "ran").exists()
