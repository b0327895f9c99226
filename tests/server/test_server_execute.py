"""Programs that clients send: run in the sandbox if the server was started for it, and refused otherwise."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from live import Live, needs_bwrap, running


@pytest.fixture(scope="module")
def executing() -> Iterator[Live]:
    with running(executes=True) as server:
        yield server


def test_programs_are_refused_unless_the_server_was_started_for_them(live: Live) -> None:
    for path in ("/v1/execute", "/v1/execute-function"):
        answer = live.post(path, code="print(1)", language="PYTHON")
        assert answer.status_code == 403
        assert "--execute" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"code": "1"}, 422, "language: "),
        ({"code": "1", "language": "cobol"}, 400, "only python"),
        ({"code": "1", "language": "python", "args": ["x"]}, 400, "args: "),
        ({"code": "1", "language": "python", "http": {"allow": [{"host": "x"}]}}, 400, "no network"),
        ({"code": "1", "language": "python", "limits": {"execution_timeout": 1000}}, 422, "at most 30"),
        ({"code": "1", "language": "python", "limits": {"memory_size": 10**6}}, 422, "at most 512"),
        ({"code": "1", "language": "python", "files": [{"path": "../x", "contents": ""}]}, 400, ""),
        ({"code": "1", "language": "python", "env": {"LD_PRELOAD": "x"}}, 400, "LD_PRELOAD"),
    ],
)
def test_what_the_sandbox_does_not_have_is_refused(
    executing: Live, body: dict[str, Any], status: int, words: str
) -> None:
    answer = executing.post("/v1/execute", **body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


class TestWithSandbox:
    pytestmark = needs_bwrap

    def test_a_program_runs(self, executing: Live) -> None:
        files = [{"path": "a.txt", "contents": "from a file"}]
        code = "import os, sys\nprint(open('a.txt').read(), os.environ['X'], input(), file=sys.stdout)\nsys.exit(3)"
        answer = executing.post(
            "/v1/execute", code=code, language="PYTHON", files=files, env={"X": "env"}, stdin="in\n"
        ).json()
        assert (answer["stdout"], answer["exit_code"]) == ("from a file env in\n", 3)
        assert isinstance(answer["duration"], int)
        assert answer["id"]

    def test_a_program_that_is_killed_has_a_positive_exit_code(self, executing: Live) -> None:
        code = "while True: pass"
        how = {"language": "python", "limits": {"execution_timeout": 1}}
        assert executing.post("/v1/execute", code=code, **how).json()["exit_code"] > 0

    def test_a_function_returns_its_output(self, executing: Live) -> None:
        def call(code: str) -> tuple[Any, str, int]:
            body = {"code": code, "language": "python", "input": {"a": [1, 2]}}
            answer = executing.post("/v1/execute-function", **body).json()
            return answer["output"], answer["output_status"], answer["execution"]["exit_code"]

        assert call("def execute(input):\n    return sum(input['a'])") == (3, "valid", 0)
        assert call("def execute(input):\n    return {1, 2}") == (None, "json_serialization_error", 0)
        output, status, exit_code = call("def execute(input):\n    raise ValueError")
        assert (output, status) == (None, "error")
        assert exit_code > 0
        assert call("x = 1")[1] == "error"

    def test_hanging_up_ends_the_program_and_frees_its_place(self, executing: Live) -> None:
        body = {"code": "import time\ntime.sleep(25)", "language": "python"}

        def hang_up(_: int) -> None:
            with pytest.raises(httpx.ReadTimeout):
                executing.http.post("/v1/execute", json=body, timeout=1)

        num_places = os.cpu_count() or 1
        with ThreadPoolExecutor(num_places) as pool:
            list(pool.map(hang_up, range(num_places)))
        started = time.monotonic()
        assert executing.post("/v1/execute", code="print(1)", language="python").json()["stdout"] == "1\n"
        assert time.monotonic() - started < 15
