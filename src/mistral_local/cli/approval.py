"""Ask the person at the terminal before a call of the model is run."""

from __future__ import annotations

import sys
from typing import Literal

from mistral_local.cli.console import Console
from mistral_local.cli.interrupt_key import InterruptKey
from mistral_local.cli.terminal_keys import line_keyboard
from mistral_local.errors import UsageError
from mistral_local.tools.call import ToolCall

Approve = Literal["ask", "auto"]

REFUSED = "error: the user refused this call"


class Approval:
    """Decides about calls: by asking, or by letting all of them run.

    Args:
        mode: "ask" or "auto".
        may_ask: whether somebody is there to answer.
        keys: who reads the keyboard meanwhile.

    Raises:
        UsageError: if nobody is there to be asked.
    """

    def __init__(self, console: Console, mode: Approve, *, may_ask: bool, keys: InterruptKey | None = None) -> None:
        if mode == "ask" and not may_ask:
            raise UsageError("nobody is there to approve calls; --approve auto runs them without asking")
        self._console, self._asks = console, mode == "ask"
        self._keys = keys or InterruptKey(is_needed=False)

    def __call__(self, call: ToolCall) -> str | None:
        """Return None to let the call run, else what the model is told; the call has been shown already."""
        if not self._asks:
            return None
        while True:
            with self._keys.paused(), line_keyboard():
                self._console.raw_err(f"Run {call.name}? [y]es, [n]o, [a]ll from now on: ")
                line = sys.stdin.readline()
            if "\x03" in line:  # Ctrl-C, where it is a key
                raise KeyboardInterrupt
            answer = line.strip().lower()
            if not line:
                self._console.note()
            if not line or answer in ("n", "no"):
                return REFUSED
            if answer in ("a", "all"):
                self._asks = False
            if answer in ("y", "yes", "a", "all"):
                return None
