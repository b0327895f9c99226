"""The line between two ranks: what cannot be read is told to whoever waits."""

import socket

import pytest

from mistral_local.errors import RankLostError
from mistral_local.parallel.line import HEADER, Connection, encode


def test_a_message_that_cannot_be_read_ends_the_line_with_its_cause() -> None:
    losses: list[str] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as theirs,
        listener.accept()[0] as ours,
    ):
        connection = Connection(ours, 1, losses.append)
        theirs.sendall(encode("hello"))
        assert connection.receive() == "hello"
        theirs.sendall(HEADER.pack(3) + b"abc")
        for _ in range(2):
            with pytest.raises(RankLostError, match="rank 1 sent what cannot be read"):
                connection.receive()
        connection._reader.join()
    assert len(losses) == 1
