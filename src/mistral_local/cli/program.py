"""Run another program as if this process were not there."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from errno import EACCES, ENOENT, ENOEXEC
from types import FrameType
from typing import NoReturn

from mistral_local.cli.console import Console
from mistral_local.errors import UsageError

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""Exit codes of shells for a program that cannot be run."""

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
FORWARDED = (*FROM_TERMINAL, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def check_program(name: str) -> None:
    """See that a program can be found, before time is spent on preparing for it.

    Raises:
        SystemExit: as run_program().
    """
    if shutil.which(name) is None:
        _refuse(name, EACCES if os.path.exists(name) and os.sep in name else ENOENT)


def run_program(words: Sequence[str], changes: Mapping[str, str]) -> int:
    """Run a program with our own stdin, stdout, stderr and open files, and wait for its end.

    Signals that reach this process reach the program, and do nothing here.

    Args:
        changes: of the environment.

    Returns:
        its exit code, 128 + n if signal n ended it.

    Raises:
        SystemExit: with the code of shells, if it cannot be started.
    """
    with _forwarding_signals() as children:
        try:
            child = subprocess.Popen(words, env={**os.environ, **changes}, close_fds=False)
        except OSError as error:
            _refuse(words[0], error.errno or ENOEXEC)
        children.append(child)
        code = child.wait()
    return code if code >= 0 else 128 - code


def _refuse(name: str, number: int) -> NoReturn:
    Console().error(UsageError(f"cannot run {name}: {os.strerror(number)}"))
    raise SystemExit(NOT_FOUND if number == ENOENT else NOT_EXECUTABLE)


@contextlib.contextmanager
def _forwarding_signals() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Hand signals on to the processes of the list, except what a terminal has sent to them itself."""
    children: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if number in FROM_TERMINAL and _in_foreground():
            return
        for child in children:
            child.send_signal(number)

    # An ignored signal (nohup) stays ignored, here and in the program.
    before = {number: signal.getsignal(number) for number in FORWARDED}
    caught = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in caught:
        signal.signal(number, forward)
    try:
        yield children
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether Ctrl-C of a terminal goes to this process, and so to the programs it started, by itself."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
