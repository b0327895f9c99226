"""The line between rank 0, which drives, and each follower: a TCP connection that carries messages and notices death.

Nothing on it has a timeout, so that a follower may wait an hour for the next message; the kernel closes the connections
of a process that dies, and a thread on each side sees that at once, whatever the main thread waits for.

Messages are pickled.  A connection counts only after it has shown a secret that went through torch's own store, so that
nobody else can send one; whoever can read that store is trusted, as torch.distributed trusts it anyway.
"""

from __future__ import annotations

import contextlib
import hmac
import pickle
import queue
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mistral_local.errors import RankLostError

HEADER = struct.Struct("!Q")
SECRET_BYTES = 32
CONNECT_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The last message of a rank that leaves in good order."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last message of a rank that cannot go on.

    Attributes:
        cause: one line that names the rank.
    """

    cause: str


OnLoss = Callable[[str], None]
OnGoodbye = Callable[[], None]


class Connection:
    """One end of a line; a thread of its own reads, so that a message or an end is never missed.

    Args:
        peer: whose end the other one is.
        on_loss: called by that thread, once, if the peer ends without a Goodbye.
        on_goodbye: called by it if the peer ends with one.
    """

    def __init__(
        self, connected: socket.socket, peer: int, on_loss: OnLoss, on_goodbye: OnGoodbye | None = None
    ) -> None:
        self.peer = peer
        self.lost: str | None = None
        self._socket, self._on_loss, self._on_goodbye = connected, on_loss, on_goodbye
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._is_closed = False
        self._reader = threading.Thread(target=self._read, name=f"mistral_local rank {peer}", daemon=True)
        self._reader.start()

    def send(self, message: Any) -> None:
        """Send a picklable message.

        Raises:
            RankLostError: if the peer has ended.
        """
        self.send_bytes(encode(message))

    def send_bytes(self, message: bytes) -> None:
        """The same, of a message that is encoded already."""
        try:
            with self._sending:
                self._socket.sendall(message)
        except OSError as error:
            raise RankLostError(self.lost or f"rank {self.peer} has ended") from error

    def receive(self) -> Any:
        """Wait for the next message, as long as it takes; a Goodbye if the peer has left in good order.

        Raises:
            RankLostError: if it ended in another way.
        """
        message = self._received.get()
        if isinstance(message, Goodbye | Failure):
            self._received.put(message)  # whoever asks again is told the same
        if isinstance(message, Failure):
            raise RankLostError(message.cause)
        return message

    def close(self, last: Goodbye | Failure) -> None:
        """Send a last message, if the peer can still hear it."""
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(OSError, RankLostError):
            self.send(last)
            self._socket.shutdown(socket.SHUT_WR)
        if not self._reader.is_alive():
            self._socket.close()

    def _read(self) -> None:
        last: Goodbye | Failure | None = None
        while last is None:
            message = self._read_message()
            self._received.put(message)
            last = message if isinstance(message, Goodbye | Failure) else None
        if isinstance(last, Failure) and not self._is_closed:
            self.lost = last.cause
            self._on_loss(last.cause)
        elif isinstance(last, Goodbye) and self._on_goodbye is not None:
            self._on_goodbye()
        if self._is_closed:
            self._socket.close()

    def _read_message(self) -> Any:
        try:
            (size,) = HEADER.unpack(_read_exactly(self._socket, HEADER.size))
            return pickle.loads(_read_exactly(self._socket, size))
        except (OSError, EOFError):
            return Failure(f"rank {self.peer} ended without a word (was it killed?)")
        except Exception as error:  # noqa: BLE001 - whatever unpickling raises; who waits must be told
            return Failure(f"rank {self.peer} sent what cannot be read: {type(error).__name__}: {error}")


def encode(message: Any) -> bytes:
    """A message as it goes over the line."""
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(content)) + content


def _read_exactly(connected: socket.socket, size: int) -> bytes:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        num_read = connected.recv_into(view)
        if not num_read:
            raise EOFError
        view = view[num_read:]
    return bytes(content)


@dataclass(frozen=True, slots=True)
class Address:
    """Where rank 0 listens, and what a follower must show."""

    port: int
    secret: bytes


class Exchange:
    """Rank 0's side before the followers have called."""

    def __init__(self, *, is_on_one_machine: bool) -> None:
        host = "127.0.0.1" if is_on_one_machine else ""
        self._listener = socket.create_server((host, 0), backlog=1024)
        self.address = Address(self._listener.getsockname()[1], secrets.token_bytes(SECRET_BYTES))

    def accept(self, num_followers: int, on_loss: OnLoss) -> dict[int, Connection]:
        """Wait for all followers; strangers are hung up on."""
        connections: dict[int, Connection] = {}
        self._listener.settimeout(CONNECT_TIMEOUT_S)
        while len(connections) < num_followers:
            try:
                connected, _ = self._listener.accept()
            except TimeoutError:
                raise RankLostError(f"only {len(connections)} of {num_followers} other ranks have called") from None
            rank = self._who_calls(connected)
            if rank is None:
                connected.close()
            else:
                connections[rank] = Connection(connected, rank, on_loss)
        self._listener.close()
        return connections

    def _who_calls(self, connected: socket.socket) -> int | None:
        connected.settimeout(CONNECT_TIMEOUT_S)
        try:
            shown = _read_exactly(connected, SECRET_BYTES)
            (rank,) = HEADER.unpack(_read_exactly(connected, HEADER.size))
        except (OSError, EOFError):
            return None
        connected.settimeout(None)
        return int(rank) if hmac.compare_digest(shown, self.address.secret) else None


def call(host: str, address: Address, rank: int, on_loss: OnLoss, on_goodbye: OnGoodbye) -> Connection:
    """A follower's end of its line."""
    connected = socket.create_connection((host, address.port), timeout=CONNECT_TIMEOUT_S)
    connected.settimeout(None)
    connected.sendall(address.secret + HEADER.pack(rank))
    return Connection(connected, 0, on_loss, on_goodbye)
