"""A call by its name: how tokenizers v11, v13 and v15 write it."""

from __future__ import annotations

from enum import Enum, auto

from mistral_local.tools.call import ToolCall, ToolCallDelta, ToolCallDone
from mistral_local.tools.call_ids import CallIds
from mistral_local.tools.call_text import NotACallError, check_name, check_object, is_no_arguments
from mistral_local.tools.json_text import JsonScanner

CALL_ID, ARGS = "[CALL_ID]", "[ARGS]"


class _Part(Enum):
    NAME = auto()
    ID = auto()
    ARGUMENTS = auto()


class NamedCall:
    """Reads `name[CALL_ID]id[ARGS]{...}`; [CALL_ID] with its id may be missing, and [ARGS] before a brace.

    Attributes:
        open_id: of the call, once its arguments have begun.
        is_closed: whether the brace that ends the arguments has come.
    """

    def __init__(self, ids: CallIds, index: int) -> None:
        self._ids, self._index = ids, index
        self._part = _Part.NAME
        self._name, self._written_id = "", ""
        self._arguments: list[str] = []  # characters
        self._num_given = 0  # so many of them were given out
        self._scanner = JsonScanner()
        self.open_id: str | None = None
        self.is_closed = False

    def push(self, char: str) -> list[ToolCallDelta | ToolCallDone]:
        """Take a character.

        Raises:
            NotACallError: if this is no call.
        """
        if self._part is not _Part.ARGUMENTS:
            if char == "{":
                self._begin_arguments()
            elif self._part is _Part.NAME:
                self._name += char
            else:
                self._written_id += char
        if self._part is _Part.ARGUMENTS:
            return self._take(char)
        return []

    def control(self, token: str) -> None:
        """Take [CALL_ID] or [ARGS].

        Raises:
            NotACallError: if it has no place here.
        """
        if token == CALL_ID and self._part is _Part.NAME:
            self._name, self._part = check_name(self._name.strip()), _Part.ID
        elif token == ARGS and self._part is not _Part.ARGUMENTS:
            self._begin_arguments()
        else:
            raise NotACallError(f"{token} in the wrong place")

    def new_piece(self) -> list[ToolCallDelta]:
        """The arguments that have come since the last piece; only those that begin like an object."""
        is_object = self._arguments[:1] == ["{"]
        piece = "".join(self._arguments[self._num_given :]) if is_object else ""
        if not piece or self.open_id is None:
            return []
        self._num_given += len(piece)
        return [ToolCallDelta(self._index, self.open_id, self._name, piece)]

    def finish(self) -> list[ToolCallDelta | ToolCallDone]:
        """No more comes: a call whose arguments are missing or empty is complete now.

        Raises:
            NotACallError: if the call is not complete.
        """
        if self.open_id is None or not is_no_arguments("".join(self._arguments)):
            raise NotACallError("the call does not end")
        self._arguments = ["{", "}"]
        return self._close()

    def _begin_arguments(self) -> None:
        self._name = check_name(self._name.strip())
        self._part = _Part.ARGUMENTS
        self.open_id = self._ids.claim(self._written_id.strip())

    def _take(self, char: str) -> list[ToolCallDelta | ToolCallDone]:
        if not self._arguments and char.isspace():
            return []
        self._arguments.append(char)
        if self._arguments[0] != "{":
            return []  # nothing, perhaps, in quotes
        self._scanner.push(char)
        if self._scanner.depth > 0:
            return []
        check_object("".join(self._arguments))
        return self._close()

    def _close(self) -> list[ToolCallDelta | ToolCallDone]:
        assert self.open_id is not None, "arguments begin after the id is chosen"
        self.is_closed = True
        call = ToolCall(self.open_id, self._name, "".join(self._arguments))
        return [*self.new_piece(), ToolCallDone(self._index, call)]
