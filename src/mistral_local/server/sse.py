"""Server-sent events, in the one framing that all published clients read: `data: {json}\\n\\n`, and no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from mistral_local.errors import MistralLocalError
from mistral_local.server.errors import error_body, error_of

DONE = b"data: [DONE]\n\n"


def sse_event(content: Any) -> bytes:
    """One event; no `event:` line, no comments and no CRLF, which clients of Azure do not read."""
    try:
        text = to_json(content)
    except ValueError:  # half of a surrogate pair, which a model may write as bytes, but UTF-8 has no form for
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"data: " + text + b"\n\n"


class EventStreamResponse(Response):
    """Sends chunks as they come; when the client hangs up, or all are sent, `close` is called.

    An error in the middle is sent as an event, and the stream ends without [DONE].
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[Any], *, close: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._chunks, self._close = chunks, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(wait_for_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._close()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for chunk in self._chunks:
                await _send_body(send, sse_event(chunk))
            await _send_body(send, DONE)
        except MistralLocalError as error:
            status = error_of(error).status_code
            await _send_body(send, sse_event(error_body(status, str(error))))
        await _send_body(send, b"", more=False)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has hung up; its body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _send_body(send: Send, body: bytes, *, more: bool = True) -> Awaitable[None]:
    return send({"type": "http.response.body", "body": body, "more_body": more})
