"""Run the app in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from types import FrameType

import uvicorn
from fastapi import FastAPI

from mistral_local.errors import UsageError
from mistral_local.server.connection import Connection
from mistral_local.server.settings import ServerSettings
from mistral_local.server.state import ServerState

KEEP_ALIVE_S = 5
MAX_HEADER_BYTES = 64 * 1024
LAST_WORDS_S = 2
"""For the end of the streams that were cut."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn, which stops in two steps: the first signal lets answers finish, the second ends the process.

    Args:
        on_start: called with the URL when the port is open.
    """

    def __init__(self, app: FastAPI, *, on_start: Callable[[str], None]) -> None:
        self._state: ServerState = app.state.server
        self._on_start = on_start
        super().__init__(_config(app, self._state.settings))

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Open the port."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Close the port, and let answers go on for the time that they have."""
        self._state.is_draining = True
        asyncio.get_running_loop().call_later(self._state.settings.drain_seconds, self._state.cut_answers)
        await super().shutdown(sockets)  # type: ignore[arg-type]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals ourselves: an orderly stop is no failure, so that none is raised again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in good order; at the second signal, at once."""
        if self.should_exit and not self._state.has_failed:
            os._exit(128 + sig)
        self.should_exit = True
        self._state.is_draining = True


def run_app(app: FastAPI, *, on_start: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Answers that are being written may go on for settings.drain_seconds; new connections are refused at once.

    Raises:
        UsageError: if the port cannot be opened.
    """
    server = Server(app, on_start=on_start)
    try:
        server.run()
    except SystemExit:
        if not server.started:  # uvicorn has logged the reason
            settings = app.state.server.settings
            raise UsageError(f"--port {settings.port}: cannot listen on {settings.host}; is the port taken?") from None
        raise


@contextmanager
def running_app(app: FastAPI) -> Iterator[str]:
    """Serve on a thread of this process, and stop as run_app() does; gives the URL.

    Raises:
        UsageError: if the port cannot be opened.
    """
    urls: SimpleQueue[str | None] = SimpleQueue()
    server = Server(app, on_start=urls.put)

    def run() -> None:
        try:
            server.run()
        finally:
            urls.put(None)

    thread = threading.Thread(target=run, name="mistral_local server", daemon=True)
    thread.start()
    url = urls.get()
    if url is None:
        raise UsageError(f"cannot listen on {app.state.server.settings.host}")
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()


def _config(app: FastAPI, settings: ServerSettings) -> uvicorn.Config:
    """uvicorn's side of the settings."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=partial(  # type: ignore[arg-type]
            Connection, head_seconds=settings.limits.head_seconds, head_bytes=MAX_HEADER_BYTES
        ),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_seconds + LAST_WORDS_S,
    )
