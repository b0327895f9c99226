"""Where a command's words go: the answer to stdout, all else to stderr, colours to terminals only."""

import io
import logging
import sys
from typing import Literal, TextIO

from mistral_local.cli.environment import is_dumb_terminal, wants_color
from mistral_local.errors import MistralLocalError

Color = Literal["auto", "always", "never"]

log = logging.getLogger("mistral_local.cli")

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
# What a model writes must not steer the terminal: escape and the other control characters become visible boxes.
_CONTROLS = {code: "�" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"} | {ord("\r"): None}


def visible(text: str) -> str:
    """Replace what a terminal would obey instead of show; newlines and tabs stay."""
    return text.translate(_CONTROLS)


def one_line(text: object) -> str:
    """Fold a message into one line that is safe to show."""
    return visible(" ".join(str(text).split()))


class Console:
    """The two outputs of a command.

    Attributes:
        is_terminal: whether the answer goes to a person's screen.
    """

    def __init__(self, color: Color = "auto", *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        for stream in (self._out, self._err):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a character the locale lacks must not end the answer
        self.is_terminal = self._out.isatty()
        self.err_is_terminal = self._err.isatty()
        self._color_out = _colored(color, is_terminal=self.is_terminal)
        self._color_err = _colored(color, is_terminal=self.err_is_terminal)

    def answer(self, text: str) -> None:
        """Show a piece of the answer at once, as it is on a pipe and harmless on a terminal."""
        self._out.write(visible(text) if self.is_terminal else text)
        self._out.flush()

    def dimmed(self, text: str) -> None:
        """Show a piece of text dimmed on a terminal; nowhere else."""
        if self.is_terminal:
            shown = visible(text)
            self.raw_out(f"{_DIM}{shown}{_PLAIN}" if self._color_out else shown)

    def aside(self, text: str) -> None:
        """Show a dimmed line on stdout."""
        shown = visible(text) if self.is_terminal else text
        self.raw_out(f"{_DIM}{shown}{_PLAIN}\n" if self._color_out else f"{shown}\n")

    def raw_out(self, text: str) -> None:
        """Write to stdout what is ours, unchanged."""
        self._out.write(text)
        self._out.flush()

    def note(self, text: str = "") -> None:
        """Show lines on stderr, dimmed."""
        shown = visible(text)
        self.raw_err(f"{_DIM}{shown}{_PLAIN}\n" if self._color_err and shown else f"{shown}\n")

    def error(self, error: BaseException) -> None:
        """Show `Error: ...` as one line on stderr; the traceback follows with --debug."""
        self.raw_err(f"Error: {one_line(_message(error))}\n")
        log.debug("traceback of the error above", exc_info=error)

    def raw_err(self, text: str) -> None:
        """Write to stderr what is ours, unchanged."""
        self._err.write(text)
        self._err.flush()


def _message(error: BaseException) -> str:
    """Return what to tell: our own messages as they are, the system's without number, others as bugs."""
    if isinstance(error, MistralLocalError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"internal error, please report it: {type(error).__name__}: {error}"


def _colored(color: Color, *, is_terminal: bool) -> bool:
    if color == "auto":
        return is_terminal and wants_color()
    return color == "always"


def can_redraw(console: Console) -> bool:
    """Tell whether stderr is a terminal on which a line can be drawn over."""
    return console.err_is_terminal and not is_dumb_terminal()
