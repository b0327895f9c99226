"""Under load: hanging up frees everything, a full queue refuses, and a stop lets answers finish."""

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import KEY, USER, Live, running, wait_until

from mistral_local.engine.sequence import Sequence, Status
from mistral_local.server.settings import Limits

LONG: dict[str, Any] = {"messages": USER, "max_tokens": 900, "ignore_eos": True, "temperature": 0}


def raw_request(**body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\napi-key: {KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


PROMPT_WORDS = (*[3] * 40, *[100] * 20, *[900] * 3, 2500)
"""The last is computed in two steps."""


async def hang_up(url: str, rng: random.Random, pace_s: float) -> None:
    """Send a request, or a part of one, read some of the answer or nothing, and hang up.

    Args:
        pace_s: what a short request takes, so that requests get as far on a slow machine.
    """
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    prompt = " ".join(rng.choices(["one", "two", "three"], k=rng.choice(PROMPT_WORDS)))
    messages = [{"role": "user", "content": prompt}]
    form = {"response_format": {"type": "json_object"}} if rng.random() < 0.2 else {}
    body = LONG | form | {"messages": messages, "max_tokens": 60, "ignore_eos": not form}
    reads = rng.random() < 0.2
    request = raw_request(**body, stream=reads or rng.random() < 0.4, n=rng.choice((1, 1, 3)))
    writer.write(request if reads or rng.random() < 0.9 else request[: rng.randrange(len(request))])
    with contextlib.suppress(ConnectionError):
        await writer.drain()
        if reads:
            await reader.read(rng.randrange(1, 4000))
        else:
            await asyncio.sleep(rng.uniform(0, 8 * pace_s))
    if rng.random() < 0.5:
        writer.transport.abort()
    writer.close()


def hang_up_often(live: Live, count: int, *, seed: int) -> Counter[str]:
    """Let many clients hang up, see that nothing is left of their requests, and tell in which states these were."""
    started = time.perf_counter()
    live.text()
    pace_s = time.perf_counter() - started
    states: Counter[str] = Counter()
    abort = live.engine.abort

    def counting_abort(sequence: Sequence) -> None:
        if sequence.status is Status.RUNNING:
            states["prefill" if sequence.num_new_tokens == 0 else "decode"] += 1
        elif sequence.status is Status.WAITING:
            states["waiting"] += 1
        abort(sequence)

    async def main() -> None:
        rng, at_once = random.Random(seed), asyncio.Semaphore(16)

        async def one() -> None:
            async with at_once:
                await hang_up(live.url, rng, pace_s)

        await asyncio.gather(*(one() for _ in range(count)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live.engine, "abort", counting_abort)
        asyncio.run(main())
        wait_until(live.is_idle)
    wait_until(lambda: live.state.num_taken == 0)
    gc.collect()
    wait_until(lambda: not live.state.answers)
    wait_until(lambda: live.http.get("/metrics").text.count("mistral_local_http_in_hand 1.0") == 1)
    return states


def test_200_clients_that_hang_up_leave_nothing_behind() -> None:
    with running(engine={"max_context": 4096}) as live:
        answer = live.text()
        states = hang_up_often(live, 200, seed=1)
        assert live.text() == answer
    assert states["waiting"] >= 5
    assert states["decode"] >= 5


def resident_bytes(process: int | str = "self") -> int:
    """Memory of a process."""
    with open(f"/proc/{process}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth_by_hanging_up() -> dict[str, int]:
    """What 500 clients that hang up add to a process which 1,500 have left already, and when the 2,000 did."""

    def bytes_in_use() -> int:
        """What is free in the arenas of many threads is given back first."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        return resident_bytes()

    with running(engine={"max_context": 4096}) as live:
        states = hang_up_often(live, 1500, seed=2)  # caches and the allocator's arenas fill up
        before, objects = bytes_in_use(), len(gc.get_objects())
        states += hang_up_often(live, 500, seed=3)
        return {
            **states,
            "bytes": bytes_in_use() - before,
            "objects": len(gc.get_objects()) - objects,
            "threads": threading.active_count(),
        }


@pytest.mark.long
def test_2000_clients_that_hang_up_leave_nothing_behind_and_no_memory() -> None:
    """In a process of its own, whose memory is the server's."""
    program = "import json, test_server_load; print(json.dumps(test_server_load.growth_by_hanging_up()))"
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout)
    assert growth["bytes"] < 40e6
    assert growth["objects"] < 3000
    assert growth["threads"] < 30
    assert growth["waiting"] >= 50
    assert growth["decode"] >= 50


@pytest.mark.parametrize("stream", [False, True])
def test_hanging_up_stops_the_answer_within_a_step_running_or_waiting(stream: bool) -> None:
    with running(engine={"max_batch_size": 1}) as live:
        host, port = live.url.removeprefix("http://").split(":")
        clients = [socket.create_connection((host, int(port))) for _ in range(3)]
        for client in clients:
            client.sendall(raw_request(**LONG, stream=stream))
        wait_until(lambda: live.engine.num_waiting == 2)
        clients[2].close()  # waits
        wait_until(lambda: live.engine.num_waiting == 1)
        clients[0].close()  # runs, or waits if it came later
        clients[1].close()
        wait_until(lambda: not live.engine.has_work, seconds=2)
        assert live.engine.stats().num_finished == {"aborted": 3}


def test_hanging_up_in_prefill_stops_it_within_a_step() -> None:
    with running(engine={"max_batch_size": 1, "max_context": 30_000}) as live:
        host, port = live.url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)))
        client.sendall(raw_request(**LONG | {"messages": [{"role": "user", "content": "word " * 25_000}]}))
        wait_until(lambda: any(sequence.num_computed_tokens for sequence in live.engine.scheduler.running))
        (sequence,) = live.engine.scheduler.running
        client.close()
        wait_until(live.is_idle)
        assert live.engine.stats().num_finished == {"aborted": 1}
        assert sequence.num_computed_tokens < sequence.num_prompt_tokens
        assert sequence.num_new_tokens == 0


def test_a_full_queue_says_when_to_come_again_and_those_inside_finish() -> None:
    with running(engine={"max_batch_size": 1, "max_waiting": 2}) as live:
        ask = {**LONG, "max_tokens": 100}
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: live.post("/v1/chat/completions", **ask), range(16)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert len(refused) < 16
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {answer.json()["error"]["code"] for answer in refused} == {"too_many_requests"}
        accepted = [answer.json() for answer in answers if answer.status_code == 200]
        assert len(accepted) + len(refused) == 16
        assert all(answer["usage"]["completion_tokens"] == 100 for answer in accepted)


def test_an_answer_is_cut_when_its_time_is_over() -> None:
    with running(limits=Limits(request_seconds=1), engine={"max_context": 100_000}) as live:
        answer = live.post("/v1/chat/completions", **{**LONG, "max_tokens": 90_000}).json()
        assert answer["choices"][0]["finish_reason"] == "error"
        assert 0 < answer["usage"]["completion_tokens"] < 90_000


def test_the_metrics_count_requests_and_tokens(live: Live) -> None:
    def metric(name: str) -> float:
        lines = live.http.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"mistral_local_{name}"))

    chats = 'http_requests_total{method="POST",route="/v1/chat/completions",status="200"}'
    before = metric(chats), metric("new_tokens_total")
    used = live.chat(min_tokens=12).json()["usage"]["completion_tokens"]
    assert (metric(chats), metric("new_tokens_total")) == (before[0] + 1, before[1] + used)
    live.http.get(f"/{'x' * 50}")
    assert metric('http_requests_total{method="GET",route="none",status="404"}') >= 1
    assert metric("running_sequences") == 0


@contextlib.contextmanager
def serving(*flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """mistral-serve as a user starts it, and its address."""
    code = "import sys; from mistral_local.cli.entry import serve; sys.exit(serve())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--port", "0", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            while "ready at " not in (line := process.stderr.readline()):
                lines.append(line)
                assert line, "".join(lines)
            yield process, line.partition("ready at ")[2].split()[0]
        finally:
            process.kill()


async def ask_again_and_again(url: str, num_clients: int, seconds: float) -> Counter[str]:
    """Let clients ask without a pause, half of them for streams, and count what they get."""
    counts: Counter[str] = Counter()
    end = time.perf_counter() + seconds

    async def ask(http: httpx.AsyncClient, *, stream: bool) -> None:
        answer = await http.post("/v1/chat/completions", json={**LONG, "max_tokens": 30, "stream": stream})
        if answer.status_code in (429, 503):
            counts["refused" if int(answer.headers["retry-after"]) >= 1 else "refused without a time"] += 1
            await asyncio.sleep(0.25)  # sooner than it was told to
            return
        text = answer.text.split("data: ")[-2] if stream else answer.text
        is_whole = answer.status_code == 200 and json.loads(text)["usage"]["completion_tokens"] == 30
        counts["whole" if is_whole else f"{answer.status_code}: {text}"] += 1

    async def be_client(http: httpx.AsyncClient, *, stream: bool) -> None:
        while time.perf_counter() < end:
            await ask(http, stream=stream)

    limits = httpx.Limits(max_connections=num_clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as http:
        await asyncio.gather(*(be_client(http, stream=bool(index % 2)) for index in range(num_clients)))
    return counts


@pytest.mark.long
def test_a_minute_at_four_times_the_capacity_answers_or_refuses_and_takes_no_memory() -> None:
    with serving("--max_batch_size", "4", "--max_waiting", "4") as (process, url):
        assert process.stderr is not None
        log = threading.Thread(target=process.stderr.read)  # it must not fill the pipe
        log.start()
        counts = asyncio.run(ask_again_and_again(url, 4 * 8, 20))
        before = resident_bytes(process.pid)
        counts += asyncio.run(ask_again_and_again(url, 4 * 8, 40))
        growth = resident_bytes(process.pid) - before
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        log.join()
    assert set(counts) == {"whole", "refused"}, counts
    assert min(counts.values()) >= 10, counts  # how many depends on what else the machine does
    assert growth < 20e6


def stream_from(url: str, **body: Any) -> Any:
    """A long answer, streamed."""
    body = {**LONG, "stream": True, **body}
    return httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers={"api-key": KEY}, timeout=60)


def log_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def is_refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=1)
    except httpx.TransportError:
        return True
    return False


def test_sigterm_lets_a_stream_finish_and_refuses_new_clients() -> None:
    with serving("--log_format", "json", MISTRAL_LOCAL_API_KEY=KEY) as (process, url):
        with stream_from(url) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: is_refused(url))
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 900
        assert process.wait(20) == 0
        log = [json.loads(text) for text in log_of(process).splitlines()]
    assert [line["status"] for line in log if line["path"] == "/v1/chat/completions"] == [200]
    assert KEY not in str(log)


def test_what_is_not_finished_in_time_is_cut_and_says_so() -> None:
    with serving("--max_context", "100000", "--drain_seconds", "1") as (process, url):
        with stream_from(url, max_tokens=90_000) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "error"
        assert process.wait(20) == 0
        assert "Traceback" not in log_of(process)


def test_a_second_signal_ends_it_at_once() -> None:
    with serving("--max_context", "100000", "--drain_seconds", "60") as (process, url):
        with stream_from(url, max_tokens=90_000) as response:
            lines = response.iter_lines()  # closes the connection when it is let go of
            next(lines)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: is_refused(url))
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM
        assert "Traceback" not in log_of(process)


def test_a_taken_port_and_a_missing_key_are_one_line(live: Live) -> None:
    def error(*flags: str) -> str:
        code = "import sys; from mistral_local.cli.entry import serve; sys.exit(serve())"
        done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        return done.stderr.splitlines()[-1]

    assert "is the port taken?" in error("--port", live.url.rpartition(":")[2])
    assert "a key is needed" in error("--host", "0.0.0.0")
    assert "no limit 'x'" in error("--limits", "x=1")
    assert "No such file" in error("--api_key_file", "/nowhere")
