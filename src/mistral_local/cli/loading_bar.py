"""The line that shows how far a checkpoint has been read."""

import time
from collections.abc import Callable

MIN_INTERVAL_S = 0.1
CLEAR_LINE = "\r\x1b[K"
BAR_WIDTH = 24


class LoadingBar:
    """Draws tensors, GB and GB/s over one line of a terminal; call it as `load`'s `progress`.

    Args:
        write: receives the text, control sequences included.
        clock: returns seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._started_s = clock()
        self._drawn_s = float("-inf")

    def start(self, name: str) -> None:
        """Say what is being loaded, before its first tensor has come."""
        self._write(f"{CLEAR_LINE}loading {name} ...")

    def __call__(self, num_tensors: int, total_tensors: int, num_bytes: int) -> None:
        """Redraw the line, at most ten times per second."""
        now_s = self._clock()
        if now_s - self._drawn_s < MIN_INTERVAL_S and num_tensors < total_tensors:
            return
        self._drawn_s = now_s
        self._write(CLEAR_LINE + progress_line(num_tensors, total_tensors, num_bytes, now_s - self._started_s))

    def clear(self) -> None:
        """Remove the line."""
        self._write(CLEAR_LINE)


def progress_line(num_tensors: int, total_tensors: int, num_bytes: int, elapsed_s: float) -> str:
    """Return one state of the line.

    >>> progress_line(50, 100, 7_000_000_000, 3.5)
    '[############            ] 50/100 tensors  7.00 GB  2.00 GB/s'
    """
    filled = BAR_WIDTH * num_tensors // max(total_tensors, 1)
    gigabytes = num_bytes / 1e9
    rate = f"{gigabytes / elapsed_s:.2f} GB/s" if elapsed_s > 0 else ""
    bar = "#" * filled + " " * (BAR_WIDTH - filled)
    return f"[{bar}] {num_tensors}/{total_tensors} tensors  {gigabytes:.2f} GB  {rate}".rstrip()
