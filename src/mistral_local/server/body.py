"""Reading a request's body: JSON only, not too much of it, and in time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from mistral_local.server.errors import ApiError
from mistral_local.server.settings import Limits
from mistral_local.server.state import ServerState

_CLOSE = {"Connection": "close"}
_MEDIA = ("application/json", "text/json")


class JsonRequest(Request):
    """A request whose body is read within the limits."""

    @property
    def _limits(self) -> Limits:
        state: ServerState = self.app.state.server
        return state.settings.limits

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            ApiError: 408 or 413.
        """
        if not hasattr(self, "_body"):
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    self._body = await self._read()
            except TimeoutError:
                message = f"the body did not come within {self._limits.body_seconds} s"
                raise ApiError(408, message, headers=_CLOSE) from None
        return self._body

    async def json(self) -> Any:
        """The body as JSON: nested at most 200 deep, no NaN, UTF-8 without halves of surrogate pairs.

        Raises:
            ApiError: 400.
        """
        body = await self.body()
        if len(body) > self._limits.json_bytes_on_loop:
            return await asyncio.to_thread(_parse, body)
        return _parse(body)

    async def _read(self) -> bytes:
        most = self._limits.body_bytes
        said = self.headers.get("content-length", "0")
        if said.isdecimal() and int(said) > most:
            raise _too_large(most)
        body = bytearray()
        async for piece in self.stream():
            body += piece
            if len(body) > most:
                raise _too_large(most)
        return bytes(body)


class JsonRoute(APIRoute):
    """A route whose bodies are JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the route a JsonRequest."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            if request.method != "POST":
                return await handle(request)
            _check_media_type(request.headers.get("content-type"))
            state: ServerState = request.app.state.server
            with state.taking():
                return await handle(JsonRequest(request.scope, request.receive))

        return handle_json


def _check_media_type(given: str | None) -> None:
    media = (given or "").partition(";")[0].strip().lower()
    if media not in _MEDIA and not (media.startswith("application/") and media.endswith("+json")):
        raise ApiError(415, f"expected Content-Type: application/json, got {media or 'none'}", headers=_CLOSE)


def _parse(body: bytes) -> Any:
    try:
        parsed = from_json(body, allow_inf_nan=False, cache_strings="keys")
        json.loads(body, object_pairs_hook=_refuse_duplicates)  # the parser above takes the last of equal keys
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    return parsed


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    counts = Counter(key for key, _ in pairs)
    if len(counts) < len(pairs):
        key, _ = counts.most_common(1)[0]
        raise ApiError(400, f"the key {json.dumps(key)[:80]} appears twice in one object", code="invalid_json")


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body has more than {most} bytes", headers=_CLOSE)
