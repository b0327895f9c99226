"""The line between ranks: who may call, what goes over it, and how an end is noticed."""

import contextlib
import socket
import threading

import pytest

from mistral_local.errors import RankLostError
from mistral_local.parallel.line import SECRET_BYTES, Exchange, Failure, Goodbye, call

PATIENCE_S = 10


class Ends:
    """Both ends of a line, and what each heard of the other's end."""

    def __init__(self) -> None:
        exchange = Exchange(is_on_one_machine=True)
        self.losses = []
        self.was_lost = threading.Event()
        self.said_goodbye = threading.Event()
        box = []
        caller = threading.Thread(
            target=lambda: box.append(call("127.0.0.1", exchange.address, 1, self._lose, self.said_goodbye.set))
        )
        caller.start()
        self.driver = exchange.accept(1, self._lose)[1]
        caller.join()
        self.follower = box[0]

    def _lose(self, cause: str) -> None:
        self.losses.append(cause)
        self.was_lost.set()


@pytest.fixture
def ends():
    ends = Ends()
    yield ends
    for end in (ends.driver, ends.follower):
        end.close(Goodbye())


def test_messages_come_whole_and_in_order_in_both_directions(ends):
    messages = ["a", {"b": list(range(100_000))}, b"c" * 3_000_000]
    sender = threading.Thread(target=lambda: [ends.driver.send(message) for message in messages])
    sender.start()
    assert [ends.follower.receive() for _ in messages] == messages
    sender.join()
    ends.follower.send("back")
    assert ends.driver.receive() == "back"
    assert ends.losses == []


def test_a_goodbye_is_no_loss(ends):
    ends.driver.close(Goodbye())
    assert ends.follower.receive() == Goodbye()
    assert ends.follower.receive() == Goodbye()  # whoever asks again is told the same
    assert ends.said_goodbye.wait(PATIENCE_S)
    assert ends.losses == []


def test_a_failure_names_its_cause(ends):
    ends.follower.close(Failure("rank 1: no memory"))
    assert ends.was_lost.wait(PATIENCE_S)
    assert ends.losses == ["rank 1: no memory"]
    with pytest.raises(RankLostError, match=r"^rank 1: no memory$"):
        ends.driver.receive()


def test_a_peer_that_dies_is_noticed_without_a_word(ends):
    ends.follower._socket.shutdown(socket.SHUT_RDWR)  # what the kernel does for a process that is killed
    assert ends.was_lost.wait(PATIENCE_S)
    with pytest.raises(RankLostError, match=r"rank 1 ended without a word \(was it killed\?\)"):
        ends.driver.receive()


def test_strangers_are_hung_up_on():
    exchange = Exchange(is_on_one_machine=True)
    stranger = socket.create_connection(("127.0.0.1", exchange.address.port))
    stranger.sendall(bytes(SECRET_BYTES) + (1).to_bytes(8, "big") + b"pickle")
    silent = socket.create_connection(("127.0.0.1", exchange.address.port))
    silent.close()
    friend = []
    caller = threading.Thread(
        target=lambda: friend.append(call("127.0.0.1", exchange.address, 2, lambda _: None, lambda: None))
    )
    caller.start()
    connections = exchange.accept(1, lambda _: None)
    caller.join()
    assert list(connections) == [2]
    with contextlib.suppress(ConnectionResetError):
        assert stranger.recv(1) == b""
    friend[0].send("hello")
    assert connections[2].receive() == "hello"
    stranger.close()
    for end in (friend[0], connections[2]):
        end.close(Goodbye())
