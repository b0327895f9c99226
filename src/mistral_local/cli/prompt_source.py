"""Where the prompt comes from when nobody is at the keyboard: -p, piped stdin, or both."""

import os
import select
import sys
from collections.abc import Callable

from mistral_local.cli.conversation import check_text
from mistral_local.errors import RequestError, UsageError

PATIENCE_S = 2.0


def find_prompt(prompt: str | None, warn: Callable[[str], None]) -> str | None:
    """Return the one prompt to answer; None if a person at a terminal is to be asked.

    Piped text without -p is the prompt, with -p it comes before it, a blank line between. One line end at its end is not
    part of it.

    Raises:
        UsageError: if stdin is empty and there is no -p.
        RequestError: if the prompt is empty or not UTF-8.
    """
    if prompt is not None:
        check_text("the prompt", prompt)
        if not prompt.strip():
            raise RequestError("the prompt is empty")
    if sys.stdin is None:
        piped = ""
    elif sys.stdin.isatty():
        return prompt
    else:
        piped = _read_stdin(warn if prompt is not None else None)
    if not piped.strip():
        if prompt is None:
            raise UsageError("no prompt: stdin is empty and there is no -p")
        return prompt
    return piped if prompt is None else f"{piped}\n\n{prompt}"


def _read_stdin(warn: Callable[[str], None] | None) -> str:
    """Read all of stdin; with `warn`, say so if nothing comes for a while: a pipe may be open by accident."""
    if warn is not None and os.name == "posix" and not select.select([sys.stdin], [], [], PATIENCE_S)[0]:
        warn("(reading stdin until it ends; with < /dev/null only -p counts)")
    piped = sys.stdin.buffer.read()
    try:
        text = piped.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"stdin is not UTF-8 at byte {error.start}") from None
    return text.removesuffix("\n").removesuffix("\r")
