"""Ranks that are killed, fail, or are told to stop: all end, soon, and the first cause is named."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ranks import TORCHRUN, environment

import mistral_local

pytestmark = pytest.mark.long

END_WITHIN_S = 10
PATIENCE_S = 90
SCRIPT = str(Path(__file__).with_name("rank_script.py"))


class Launch:
    """torchrun and its ranks, with what they say on stderr."""

    def __init__(self, *command: str, num_ranks: int = 2, more: tuple[str, ...] = ("--standalone",)) -> None:
        self.process = subprocess.Popen(
            [*TORCHRUN, *more, f"--nproc-per-node={num_ranks}", *command],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def wait_for(self, pattern: str, *, times: int = 1) -> str:
        """Wait until so many lines on stderr match, and return what the last of them has in its group."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = re.findall(pattern, "".join(self.lines))
            if len(found) >= times:
                return str(found[-1])
            assert self.process.poll() is None, self.said
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in: {self.said}")

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def pid_of(self, rank: int) -> int:
        """The process of a rank, by its environment."""
        for pid in self._children():
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if b"RANK=%d" % rank in variables:
                return pid
        raise AssertionError(f"rank {rank} does not run")

    def _children(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def ends(self, pids: list[int]) -> int:
        """Wait for the end of all, and return the exit code."""
        started = time.monotonic()
        code = self.process.wait(END_WITHIN_S)
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < started + END_WITHIN_S, "a rank has outlived torchrun"
            time.sleep(0.05)
        self._reader.join(5)
        return code

    def close(self) -> None:
        for pid in self._children() if self.process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                self._reader.join(5)
                stream.close()


@pytest.fixture
def launch():
    """Start torchrun; whatever is left of it is ended afterwards."""
    started = []

    def start(*command, **how):
        started.append(Launch(*command, **how))
        return started[-1]

    yield start
    for each in started:
        each.close()


def serve(launch, **how):
    """A server on two ranks, and its address."""
    server = launch("--no-python", "mistral-serve", "--port", "0", "--max_batch_size", "2", **how)
    return server, server.wait_for(r"ready at (http://\S+) ")


def ask(url, *, max_tokens, timeout=PATIENCE_S):
    body = {"model": "x", "prompt": "This is a test", "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def load(url, num_requests):
    """Keep a server busy; afterwards the answers are there, whatever they are."""
    answers = []

    def one():
        try:
            answers.append(ask(url, max_tokens=3000))
        except OSError as error:
            answers.append((0, str(error)))

    threads = [threading.Thread(target=one) for _ in range(num_requests)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    assert not answers, "the load must last"
    return threads, answers


@pytest.mark.parametrize("rank", [0, 1])
def test_killing_a_rank_under_load_ends_all_and_leaves_no_request_waiting(launch, rank):
    server, url = serve(launch)
    pids = [server.pid_of(each) for each in range(2)]
    threads, answers = load(url, 4)
    os.kill(pids[rank], signal.SIGKILL)
    assert server.ends(pids) != 0
    for thread in threads:
        thread.join(END_WITHIN_S)
    assert len(answers) == 4
    assert f"Error: rank {rank} ended without a word (was it killed?)" in server.said
    if rank == 1:
        assert all(status >= 500 and "rank 1" in text for status, text in answers), answers


def test_torchrun_restarts_a_server(launch):
    server, url = serve(launch, more=("--standalone", "--max-restarts=1"))
    status, before = ask(url, max_tokens=5)
    assert status == 200
    os.kill(server.pid_of(1), signal.SIGKILL)
    url = server.wait_for(r"ready at (http://\S+) ", times=2)
    status, after = ask(url, max_tokens=5)
    assert status == 200
    assert json.loads(after)["choices"] == json.loads(before)["choices"]


def test_a_server_that_is_told_to_stop_finishes_its_answers(launch):
    server, url = serve(launch)
    pids = [server.pid_of(each) for each in range(2)]
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(url, max_tokens=40)))
    thread.start()
    time.sleep(0.2)
    server.process.terminate()
    server.ends(pids)
    thread.join(END_WITHIN_S)
    assert answers[0][0] == 200, answers
    assert json.loads(answers[0][1])["usage"]["completion_tokens"] == 40


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("memory", "rank 1: .*DefaultCPUAllocator: can't allocate memory"),
        ("raise on 0", "rank 0: ValueError: planted"),
    ],
)
def test_a_rank_that_fails_names_the_cause_and_ends_all(launch, fault, cause):
    script = launch(SCRIPT, fault)
    script.wait_for("in the middle")
    pids = [script.pid_of(each) for each in range(2)]
    assert script.ends(pids) != 0
    assert re.search(f"Error: {cause}", script.said)


def test_every_rank_gets_the_same_lists_and_waits_longer_for_them_than_a_collective_may(launch):
    script = launch(SCRIPT, "idle")
    assert script.process.wait(PATIENCE_S) == 0, script.said
    assert script.process.stdout is not None
    lists = [json.loads(line) for line in script.process.stdout]
    assert len(lists) == 2
    assert lists[0] == lists[1]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_two_machines_answer_as_one_process_does_and_end_together(launch):
    llm = mistral_local.load(dtype="float32", max_context=64)
    alone = llm.complete("This is a test", max_tokens=12, temperature=0)
    machines = start_machines(launch, "mistral-serve", "--port", "0", "--dtype", "float32", "--pipeline", "2")
    url = machines[0].wait_for(r"ready at (http://\S+) ")
    status, answer = ask(url, max_tokens=12)
    assert (status, json.loads(answer)["choices"][0]["text"]) == (200, alone.text)
    pids = [machines[0].pid_of(0), machines[1].pid_of(1)]
    os.kill(pids[1], signal.SIGKILL)
    codes = [machine.ends(pids) for machine in machines]
    assert 0 not in codes
    assert "Error: rank 1 ended without a word" in machines[0].said


def start_machines(launch, *command):
    """Two agents on this machine, one rank each."""
    port = free_port()
    return [
        launch(
            "--no-python",
            *command,
            num_ranks=1,
            more=("--nnodes=2", f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"),
        )
        for node in range(2)
    ]
