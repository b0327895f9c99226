"""Who may ask: a key on every route but /health, and no web page of a stranger."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mistral_local.server.errors import ApiError, error_response
from mistral_local.server.settings import ServerSettings, is_loopback

OPEN_PATHS = ("/health",)


class Auth:
    """Middleware that lets nobody in without the key.

    It also refuses browsers that act for a page of another origin: by their Origin header, and, on a server that only
    this machine can reach, by a Host header that names another machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings
        self._digest = None if settings.api_key is None else _digest(settings.api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._refusal(Headers(scope=scope), scope["path"])):
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> ApiError | None:
        """Why the request is refused; None if it is not."""
        if path in OPEN_PATHS:
            return None
        origin = headers.get("origin")
        if origin is not None and not self._may_ask(origin):
            return ApiError(403, "pages of this origin may not ask; --allowed_origins names those that may")
        if self._settings.is_local and not is_loopback(_host_name(headers.get("host", ""))):
            return ApiError(403, "the Host header names another machine than the one that this server listens on")
        if self._digest is not None and not any(
            hmac.compare_digest(self._digest, _digest(key)) for key in _keys(headers)
        ):
            return ApiError(
                401,
                "the API key is missing or wrong: send it as `Authorization: Bearer KEY` or `api-key: KEY`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return None

    def _may_ask(self, origin: str) -> bool:
        if origin in self._settings.allowed_origins:
            return True
        try:
            return is_loopback(urlsplit(origin).hostname or "")
        except ValueError:
            return False


def _keys(headers: Headers) -> list[str]:
    """The keys that a request shows: in the way of OpenAI and Mistral, in that of Azure, or both."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    keys = [token.strip()] if scheme.lower() == "bearer" else []
    return [*keys, *headers.getlist("api-key")]


def _digest(key: str) -> bytes:
    """Of one length for all keys, so that comparing takes the same time."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _host_name(host: str) -> str:
    """The name of a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
