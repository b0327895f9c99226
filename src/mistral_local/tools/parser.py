"""Function calls in an answer, read while they arrive, in the formats of all tokenizer versions.

v2 .. v7    [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]
v11         [TOOL_CALLS]f[CALL_ID]id[ARGS]{...}        the id optional; one marker per call
v13, v15    [TOOL_CALLS]f[ARGS]{...}                   one marker per call

The form is told by what follows the marker, not by the version: models do not always write their own.  A single object
without its array is read, and so is `f{...}` without [ARGS].  Only control tokens count as such; the same words spelled in
letters are text.
"""

from __future__ import annotations

from typing import Literal

from mistral_local.tools.call import BrokenToolCall, CallEvent, ToolCallDelta, ToolCallDone
from mistral_local.tools.call_array import CallArray
from mistral_local.tools.call_ids import CallIds
from mistral_local.tools.call_text import NotACallError
from mistral_local.tools.named_call import ARGS, CALL_ID, NamedCall

MARKER = "[TOOL_CALLS]"


class ToolCallParser:
    """Reads what follows one [TOOL_CALLS]; made anew for each.

    Args:
        ids: of the conversation; new calls get theirs from it.
        index: of the first call here.
    """

    def __init__(self, ids: CallIds, *, index: int = 0) -> None:
        self._ids, self._index = ids, index
        self._form: CallArray | NamedCall | None = None  # unknown until the first letter
        self._is_malformed = False
        self._raw = [MARKER]  # what belongs to no complete call yet, in pieces

    @property
    def is_closed(self) -> bool:
        """Whether the calls are complete: what comes next is no part of them."""
        return self._form is not None and self._form.is_closed

    def text(self, text: str) -> tuple[list[CallEvent], str]:
        """Take more text; returns the events, and what stands behind the last call."""
        events: list[CallEvent] = []
        for at, char in enumerate(text):
            if self.is_closed:
                return events, text[at:]
            self._raw.append(char)
            events += self._push(char)
        if self._form is not None and not self._is_malformed:
            events += self._form.new_piece()
        return events, ""

    def control(self, token: str) -> None:
        """Take a control token other than the marker; one without meaning in a call is only kept."""
        self._raw.append(token)
        if token not in (CALL_ID, ARGS) or self._is_malformed:
            return
        try:
            if self._form is None:
                raise NotACallError(f"{token} before a name")
            self._form.control(token)
        except NotACallError:
            self._is_malformed = True

    def finish(self, *, is_cut: bool) -> list[CallEvent]:
        """No more comes: say what has become of the call that is open.

        Args:
            is_cut: whether a limit ended the answer here; arguments that have not begun are then missing, not empty.
        """
        raw = "".join(self._raw)
        if not raw.strip(" \t\r\n,]"):
            return []  # all calls are complete; of the array itself nothing needs to be kept
        if self._form is not None and not (is_cut or self._is_malformed):
            try:
                if events := self._form.finish():
                    return self._note(events)
            except NotACallError:
                pass
        reason: Literal["cut", "malformed"] = (
            "cut" if is_cut and not (self._is_malformed or self.is_closed) else "malformed"
        )
        return [BrokenToolCall(raw, reason, self._form.open_id if self._form is not None else None)]

    def _push(self, char: str) -> list[CallEvent]:
        if self._is_malformed or (self._form is None and char.isspace()):
            return []
        try:
            if self._form is None:
                self._form = self._choose(char)
                if char == "[":
                    return []
            return self._note(self._form.push(char))
        except NotACallError:
            self._is_malformed = True
            return []

    def _choose(self, char: str) -> CallArray | NamedCall:
        if char in "[{":
            return CallArray(self._ids, self._index, is_alone=char == "{")
        return NamedCall(self._ids, self._index)

    def _note(self, events: list[ToolCallDelta | ToolCallDone]) -> list[CallEvent]:
        """Remember that everything up to here belongs to complete calls."""
        if any(isinstance(event, ToolCallDone) for event in events):
            self._raw = []
        return list(events)
