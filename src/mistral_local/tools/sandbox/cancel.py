"""Waiting for a run on another thread so that whoever stops waiting also stops the run."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from mistral_local.tools.sandbox.result import ExecResult

Start = Callable[[int], "Future[ExecResult]"]


class _StopPipe:
    """A descriptor that becomes readable when a run is to stop."""

    def __init__(self) -> None:
        self.fd, self._write_end = os.pipe()
        self._lock = threading.Lock()
        self._is_closed = False

    def stop(self) -> None:
        with self._lock:
            if not self._is_closed:
                os.write(self._write_end, b"x")

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            os.close(self.fd)
            os.close(self._write_end)


def await_or_stop(start: Start) -> ExecResult:
    """Wait for a run; an interrupt (Ctrl-C) kills the program before it is passed on.

    Args:
        start: starts the run and takes a descriptor that becomes readable when the run is to stop.
    """
    pipe = _StopPipe()
    try:
        running = start(pipe.fd)
        try:
            return running.result()
        finally:
            if not running.done():
                pipe.stop()
                wait([running])
    finally:
        pipe.close()


async def aawait_or_stop(start: Start) -> ExecResult:
    """`await_or_stop` for an event loop: cancelling the task kills the program and waits for its end."""
    pipe = _StopPipe()
    try:
        running = start(pipe.fd)
    except BaseException:
        pipe.close()
        raise
    running.add_done_callback(lambda _: pipe.close())  # not here: whoever is cancelled twice does not wait for it
    ended = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        if not running.cancel():
            pipe.stop()
            await asyncio.wait([ended])
            ended.exception()  # it says that the run was cancelled
        raise
