"""Ctrl-C while an answer streams: the first asks it to stop, the second leaves."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
TWICE_WITHIN_S = 1.0


class InterruptClock:
    """Remembers the last Ctrl-C, to know the second of two."""

    def __init__(self) -> None:
        self._last_s = float("-inf")

    def is_second(self) -> bool:
        """Count one Ctrl-C; tell whether the one before was less than a second ago."""
        now_s = time.monotonic()
        is_second = now_s - self._last_s < TWICE_WITHIN_S
        self._last_s = now_s
        return is_second


class StopRequest:
    """Context in which the first SIGINT only sets `requested`, so that the engine ends its step first.

    The second SIGINT raises SystemExit(130) wherever the process is: nothing is computed after it.

    Args:
        leaves_in_order: let the step end at the second as well, and exit 0 then: other ranks take part in it.
    """

    def __init__(self, clock: InterruptClock, *, leaves_in_order: bool = False) -> None:
        self.requested = False
        self._clock = clock
        self._leaves_in_order, self._leaves = leaves_in_order, False

    def __enter__(self) -> "StopRequest":
        self._previous = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)
        if self._leaves:
            raise SystemExit(0)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        is_second = self._clock.is_second()
        if (self.requested or is_second) and not self._leaves_in_order:
            raise SystemExit(EXIT_INTERRUPTED)
        self._leaves = self.requested or is_second
        self.requested = True


def exit_on_terminate() -> None:
    """Let SIGTERM unwind the program, so that the terminal is restored, and exit 143."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, leave)


@contextmanager
def terminate_by_interrupt() -> Iterator[None]:
    """Let SIGTERM end what only knows how to end at SIGINT, such as prompt_toolkit's loop; exits 143 all the same."""
    is_terminated = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal is_terminated
        is_terminated = True
        signal.raise_signal(signal.SIGINT)

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if is_terminated:
            raise SystemExit(EXIT_TERMINATED) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
