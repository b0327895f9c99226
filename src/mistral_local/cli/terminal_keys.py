"""What the terminal does with keys while no message is being read."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_keyboard() -> Iterator[None]:
    """Keep keys typed meanwhile from the screen, and whole for the next prompt; Ctrl-C and Ctrl-Z still work."""
    if os.name != "posix" or not sys.stdin.isatty():
        yield
        return
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[0] &= ~termios.ICRNL  # Enter stays Enter: as a newline it would only begin a new line of the message
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


@contextmanager
def line_keyboard() -> Iterator[None]:
    """Let a line be typed and seen, as an answer to a question; what was typed before the question is no answer to it."""
    if os.name != "posix" or not sys.stdin.isatty():
        yield
        return
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    lines = termios.tcgetattr(descriptor)
    lines[0] |= termios.ICRNL
    lines[3] |= termios.ECHO | termios.ICANON
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, lines)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
