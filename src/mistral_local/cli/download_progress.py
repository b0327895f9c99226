"""How a download shows how far it is: a line on a terminal, lines in a log, JSON events, or nothing."""

import json
import time
from collections import deque
from collections.abc import Callable

from mistral_local.cli.console import Console, can_redraw
from mistral_local.cli.loading_bar import BAR_WIDTH, CLEAR_LINE
from mistral_local.hub.progress import Progress
from mistral_local.hub.space import gigabytes

RATE_WINDOW_S = 15.0


class Meter:
    """Counts bytes, and measures their rate over the last seconds; what was there before does not count for it.

    Args:
        clock: returns seconds.
    """

    def __init__(self, done: int, total: int | None, clock: Callable[[], float]) -> None:
        self.done = done
        self.total = total
        self._clock = clock
        self._samples = deque([(clock(), done)])

    def advance(self, num_bytes: int) -> None:
        """Count so many more."""
        self.done += num_bytes
        now_s = self._clock()
        if now_s - self._samples[-1][0] >= 0.1:
            self._samples.append((now_s, self.done))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()

    @property
    def bytes_per_s(self) -> float:
        """The rate; 0 before there is one."""
        then_s, then = self._samples[0]
        elapsed_s = self._clock() - then_s
        return (self.done - then) / elapsed_s if elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at this rate; None when nobody can tell."""
        rate = self.bytes_per_s
        return (self.total - self.done) / rate if self.total is not None and rate > 0 else None


def meter_line(phase: str, meter: Meter) -> str:
    """Return one state of the line."""
    rate = f"  {gigabytes(int(meter.bytes_per_s))}/s" if meter.bytes_per_s else ""
    if not meter.total:
        return f"{phase}  {gigabytes(meter.done)}{rate}"
    filled = BAR_WIDTH * meter.done // meter.total
    bar = "#" * filled + " " * (BAR_WIDTH - filled)
    eta = f"  {duration(meter.eta_s)} left" if meter.eta_s is not None and meter.done < meter.total else ""
    return f"{phase:<8} [{bar}] {gigabytes(meter.done)} of {gigabytes(meter.total)}{rate}{eta}"


def duration(seconds: float) -> str:
    """Return a duration for people.

    >>> duration(42.4), duration(192), duration(7325)
    ('42 s', '3 min 12 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class ShownProgress:
    """Shows the state at intervals through `draw`, and notes through `console`.

    Args:
        interval_s: least seconds between two states.
        draw: receives the phase and its meter.
        clear: removes a line that was drawn over.
    """

    def __init__(
        self,
        console: Console,
        draw: Callable[[str, Meter], None],
        *,
        interval_s: float,
        clear: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._draw, self._clear = console, draw, clear
        self._interval_s, self._clock = interval_s, clock
        self._phase, self._meter = "", Meter(0, None, clock)
        self._shown_s = clock()

    def begin(self, phase: str, done: int, total: int | None) -> None:
        """A phase starts; a log hears of it when it has gone on for a while, or is over."""
        self._phase, self._meter = phase, Meter(done, total, self._clock)
        if self._interval_s <= 1:
            self._show()
        else:
            self._shown_s = self._clock()

    def advance(self, num_bytes: int) -> None:
        """So many more bytes are done."""
        self._meter.advance(num_bytes)
        if self._clock() - self._shown_s >= self._interval_s:
            self._show()

    def end(self) -> None:
        """The phase is over."""
        self._show()
        self._clear()

    def note(self, text: str) -> None:
        """Show a line."""
        self._clear()
        self._console.note(text)

    def _show(self) -> None:
        self._shown_s = self._clock()
        self._draw(self._phase, self._meter)


class QuietProgress:
    """Shows nothing."""

    def begin(self, phase: str, done: int, total: int | None) -> None:
        """Show nothing."""

    def advance(self, num_bytes: int) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""


class JsonProgress(ShownProgress):
    """Writes each state and note as a JSON object on a line of stdout."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, self._event, interval_s=1.0)

    def note(self, text: str) -> None:
        """Write the note as an event."""
        write_json(self._console, {"event": "note", "text": text})

    def _event(self, phase: str, meter: Meter) -> None:
        rate, eta_s = round(meter.bytes_per_s), meter.eta_s
        write_json(
            self._console,
            {
                "event": phase,
                "done": meter.done,
                "total": meter.total,
                "bytes_per_s": rate,
                "eta_s": None if eta_s is None else round(eta_s),
            },
        )


def write_json(console: Console, value: object) -> None:
    """Write one line of JSON to stdout."""
    console.raw_out(json.dumps(value, ensure_ascii=False) + "\n")


def make_progress(console: Console, *, quiet: bool, as_json: bool) -> Progress:
    """Choose how to show a download."""
    if as_json:
        return JsonProgress(console)
    if quiet:
        return QuietProgress()
    if can_redraw(console):
        return ShownProgress(
            console,
            lambda phase, meter: console.raw_err(CLEAR_LINE + meter_line(phase, meter)),
            interval_s=0.1,
            clear=lambda: console.raw_err(CLEAR_LINE),
        )
    return ShownProgress(console, lambda phase, meter: console.note(meter_line(phase, meter)), interval_s=30.0)
