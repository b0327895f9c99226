"""Refused before their body was read: such clients read their answer, and hold nothing."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from live import KEY, Live
from test_server_load import resident_bytes

from mistral_local.server import unread


def refused_head(size: int, *headers: str) -> bytes:
    """The head of a request with a body of this size."""
    fields = [
        "Host: localhost",
        f"api-key: {KEY}",
        "Content-Type: application/json",
        f"Content-Length: {size}",
        *headers,
    ]
    return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *fields, "", ""]).encode()


@contextlib.contextmanager
def full(live: Live) -> Iterator[None]:
    """A server that takes no more requests."""
    with contextlib.ExitStack() as taken:
        for _ in range(live.state.llm.capacity):
            taken.enter_context(live.state.taking())
        yield


def connect(live: Live) -> socket.socket:
    host, port = live.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def read_429(client: socket.socket) -> bytes:
    """A whole refusal."""
    received = b""
    while not received.endswith(b"}}"):
        received += (piece := client.recv(2**16))
        assert piece, "the connection was closed"
    assert received.startswith(b"HTTP/1.1 429 ")
    return received


@pytest.mark.parametrize("headers", [(), ("Connection: close",), ("Expect: 100-continue",)])
def test_a_refused_client_that_sends_it_all_first_reads_its_429(live: Live, headers: tuple[str, ...]) -> None:
    body = b"x" * 4 * 2**20
    with full(live), connect(live) as client:
        client.sendall(refused_head(len(body), *headers))
        for start in range(0, len(body), 2**18):
            client.sendall(body[start : start + 2**18])
        assert b"retry-after: 1" in read_429(client)


def test_a_refused_body_that_has_come_leaves_the_connection_open(live: Live) -> None:
    with full(live), connect(live) as client:
        for _ in range(2):
            client.sendall(refused_head(2) + b"{}")
            assert b"connection: close" not in read_429(client)


def test_a_refused_body_that_never_ends_is_cut_off_and_holds_nothing(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "LINGER_S", 0.3)
    with connect(live) as client:
        with full(live):
            client.sendall(refused_head(10**12))
            assert b"connection: close" in read_429(client)
        assert live.state.num_taken == 0
        before, start = resident_bytes(), time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < start + 20:
                client.sendall(b"x" * 2**18)
        assert resident_bytes() < before + 16 * 2**20
