"""Who waits for whom: requests come in by arrival, and none of them, however large, keeps others out."""

import socket
import threading
import time
from typing import Any

import pytest
from live import KEY, USER, Live, running, wait_until


def ask(
    live: Live, done: dict[str, float], name: str, path: str = "/v1/chat/completions", **body: Any
) -> threading.Thread:
    """Send a request from a thread that notes when its answer came."""

    def send() -> None:
        response = live.post(path, **body)
        assert response.status_code == 200, response.text
        done[name] = time.monotonic()

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def chat(num_tokens: int, name: str = "") -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{name} {USER[0]['content']}"}]
    return {"messages": messages, "max_tokens": num_tokens, "ignore_eos": True, "temperature": 0}


def wait_until_taken(live: Live, done: dict[str, float], count: int) -> None:
    """Wait until the engine has had so many requests."""
    wait_until(lambda: live.engine.stats().num_running + live.engine.num_waiting + len(done) >= count)


def test_a_short_request_behind_a_burst_waits_for_those_before_it_only() -> None:
    with running(engine={"max_batch_size": 2}) as live:
        done: dict[str, float] = {}
        threads = []
        for number in range(12):  # one after the other, so that their order is known
            threads.append(ask(live, done, f"burst {number}", **chat(80, str(number))))
            wait_until_taken(live, done, len(threads))
        threads.append(ask(live, done, "short", **chat(1, "short")))
        wait_until_taken(live, done, len(threads))
        threads += [ask(live, done, f"later {number}", **chat(80, f"later {number}")) for number in range(6)]
        for thread in threads:
            thread.join(120)
        assert len(done) == 19
        assert done["short"] < min(time for name, time in done.items() if name.startswith("later"))


def test_a_short_request_does_not_wait_for_the_end_of_long_ones_beside_it(live: Live) -> None:
    done: dict[str, float] = {}
    long = [ask(live, done, f"long {number}", **chat(700, str(number))) for number in range(3)]
    wait_until(lambda: live.engine.stats().num_running == 3)
    ask(live, done, "short", **chat(2, "short")).join(60)
    assert set(done) == {"short"}
    for thread in long:
        thread.join(120)
    assert len(done) == 4


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": [f"text {number} " + "word " * 60 for number in range(400)]}),
        ("/v1/moderations", {"input": [f"text {number}" for number in range(30)]}),
    ],
)
def test_a_request_of_many_parts_lets_others_in_between(live: Live, path: str, body: dict[str, Any]) -> None:
    done: dict[str, float] = {}
    large = ask(live, done, "large", path, **body)
    wait_until(lambda: live.engine.has_work)
    assert live.engine.num_waiting <= live.engine.config.max_num_seqs
    ask(live, done, "short", **chat(2, path)).join(60)
    assert "large" not in done
    large.join(120)
    assert "large" in done


def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mistral_local.server.run.KEEP_ALIVE_S", 1)
    with running() as live:
        host, port = live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as idle:
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while piece := idle.recv(1000):
                received += piece
        assert received.endswith(b'{"status":"ok"}')


def test_headers_beyond_their_limit_are_refused_and_the_connection_closed(live: Live) -> None:
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(f"GET /health HTTP/1.1\r\nHost: localhost\r\napi-key: {KEY}\r\nX: ".encode() + b"x" * 80_000)
        try:
            answer = client.makefile("rb").read()
        except ConnectionResetError:
            answer = b"HTTP/1.1 4"
    assert answer.startswith(b"HTTP/1.1 4")
    assert live.http.get("/health").status_code == 200
