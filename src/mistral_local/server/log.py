"""The log: one line per request, as text or JSON, without prompts, answers or keys."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable
from typing import Any, Literal, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mistral_local.server.errors import CLIENT_GONE
from mistral_local.server.metrics import Metrics

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")

_access = logging.getLogger("mistral_local.server.access")


class RequestLog:
    """Middleware that logs and counts each request when its response has ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, num_bytes, is_whole, started = CLIENT_GONE, 0, False, time.perf_counter()

        def count(message: Message) -> Awaitable[None]:  # no coroutine of its own: it is called for every token
            nonlocal status, num_bytes, is_whole
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                num_bytes += len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
            return send(message)

        try:
            with self._metrics.in_hand.track_inprogress():
                await self._app(scope, receive, count)
        finally:
            seconds = time.perf_counter() - started
            status = status if is_whole else CLIENT_GONE
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.observe(route=route, method=method, status=status, seconds=seconds)
            fields = {
                "client": (scope.get("client") or ("-",))[0],
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(seconds, 4),
                "bytes": num_bytes,
            }
            _access.info(" ".join(f"{value}" for value in fields.values()), extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """A JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if fields := getattr(record, "fields", None):
            line |= fields
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """A line of text; what a client chose of it cannot break the line."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():<7} "
        text = record.getMessage().encode("unicode_escape").decode("ascii")
        return f"{head}{text}" + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def set_up_log(log_format: Literal["text", "json"], stream: TextIO) -> None:
    """Let our log and uvicorn's warnings go to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    for name, level in (("mistral_local", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(min(level, logger.level or level))
