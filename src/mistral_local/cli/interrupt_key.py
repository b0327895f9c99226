"""Ctrl-C as a key, for a terminal whose signals go to somebody else.

torchrun keeps the terminal's signals to itself and ends all ranks at SIGINT.  Rank 0 of mistral-chat therefore turns the
signal off and reads the terminal while no message is being typed: Ctrl-C becomes a SIGINT of this process alone, and
other keys are kept for the next message.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CTRL_C = b"\x03"


class InterruptKey:
    """Reads Ctrl-C from the terminal; does nothing where signals arrive as they should.

    Args:
        is_needed: whether the process was started by torchrun, with others.
    """

    def __init__(self, *, is_needed: bool) -> None:
        self._is_active = is_needed and os.name == "posix" and sys.stdin is not None and sys.stdin.isatty()
        self._typed = bytearray()
        self._thread: threading.Thread | None = None
        self._wake_reader = self._wake_writer = -1

    @property
    def is_active(self) -> bool:
        """Whether Ctrl-C is a key here."""
        return self._is_active

    @contextmanager
    def owning(self) -> Iterator[None]:
        """Read keys, but where `paused`, until the end of the context."""
        if not self._is_active:
            yield
            return
        import termios

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        quiet = termios.tcgetattr(descriptor)
        quiet[3] &= ~termios.ISIG
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
        self._start()
        try:
            yield
        finally:
            self._stop()
            termios.tcsetattr(descriptor, termios.TCSANOW, before)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the keys to somebody else for a while."""
        was_running = self._thread is not None
        self._stop()
        try:
            yield
        finally:
            if was_running:
                self._start()

    def take_typed(self) -> str:
        """What was typed since the last call, without Ctrl-C."""
        typed, self._typed = bytes(self._typed), bytearray()
        return typed.decode(errors="replace")

    def _start(self) -> None:
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._read, name="mistral_local keys", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        if self._thread is not None:
            os.close(self._wake_writer)
            self._thread.join()
            os.close(self._wake_reader)
            self._thread = None

    def _read(self) -> None:
        keyboard = sys.stdin.fileno()
        while True:
            ready, _, _ = select.select([keyboard, self._wake_reader], [], [])
            if self._wake_reader in ready:
                return
            keys = os.read(keyboard, 4096)
            if not keys:  # the terminal is gone
                return
            for _ in range(keys.count(CTRL_C)):
                os.kill(os.getpid(), signal.SIGINT)
            self._typed += keys.replace(CTRL_C, b"")
