"""Connections of uvicorn that do not wait for ever, and frame the pieces of a stream at little cost."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"


class Http(h11.Connection):
    """h11, which does not think twice about each piece of a chunked body: its state stays as it is there."""

    _is_chunked = False

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        """The bytes of an event; errors as h11's."""
        if self._is_chunked and type(event) is h11.Data and event.data and self.our_state is h11.SEND_BODY:
            return b"%x\r\n%b\r\n" % (len(event.data), event.data)
        sent = super().send(event)
        if type(event) is h11.Response:
            self._is_chunked = sent is not None and _CHUNKED in sent.lower()
        return sent


class Connection(H11Protocol):
    """An HTTP/1.1 connection that is closed if a request's head is begun, or the connection opened, and no head comes.

    Args:
        head_seconds: how long it may take.
        head_bytes: how long it may be.
        how: as uvicorn gives it.
    """

    def __init__(self, *, head_seconds: float, head_bytes: int, **how: Any) -> None:
        super().__init__(**how)
        self.conn = Http(h11.SERVER, head_bytes)
        self._head_seconds = head_seconds
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that is not complete must be so in time."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self.conn.trailing_data[0]:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
