"""What is left of a body when its request is refused: read and dropped, so that the client reads the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SOON_S = 0.01
"""A body that comes so soon is dropped before the answer, and the connection stays open."""

LINGER_S, LINGER_BYTES = 2, 64 * 2**20
"""How long, and how much of it, is read after the answer."""

_CLOSE = (b"connection", b"close")


class DropUnread:
    """Middleware that reads a request's body to its end, though nobody wants it, before the connection is closed.

    Closing a socket with unread data resets it, and the client may lose the answer that has reached it.  The answer goes
    out first; nothing else waits for the rest, no more than a piece of it is kept, and a client that takes too long is
    cut off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(receive)

        def answer(message: Message) -> Awaitable[None]:
            return answer_unread(message) if body.is_unread else send(message)

        async def answer_unread(message: Message) -> None:
            if message["type"] == "http.response.start":
                if not _header(scope, b"expect"):  # asking for the body would invite it
                    await body.drop(SOON_S)
                if body.is_unread and _CLOSE not in message["headers"]:
                    message = {**message, "headers": [*message["headers"], _CLOSE]}
            elif not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.drop(LINGER_S)
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, body.receive, answer)


class _Body:
    """The body of one request.

    Attributes:
        is_unread: whether something of it may still come.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_unread = True

    async def receive(self) -> Message:
        """The next piece, or the news that the client has hung up."""
        message = await self._receive()
        self.is_unread &= message.get("more_body", False)
        return message

    async def drop(self, seconds: float) -> None:
        """Read what comes within a time."""
        num_bytes = 0
        try:
            async with asyncio.timeout(seconds):
                while self.is_unread and num_bytes < LINGER_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass


def _has_body(scope: Scope) -> bool:
    return _header(scope, b"content-length") not in (b"", b"0") or bool(_header(scope, b"transfer-encoding"))


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for its_name, value in scope["headers"] if its_name == name), b"")
