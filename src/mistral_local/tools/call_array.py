"""Calls as an array of JSON objects: how tokenizers v2 to v7 write them."""

from __future__ import annotations

from mistral_local.tools.call import ToolCall, ToolCallDelta, ToolCallDone
from mistral_local.tools.call_ids import CallIds
from mistral_local.tools.call_text import NotACallError, check_name, check_object, is_no_arguments
from mistral_local.tools.json_text import JsonScanner, object_members, read_json


class CallArray:
    """Reads `[{"name": "f", "arguments": {...}}, ...]`, each call when its object ends; also one object alone.

    Args:
        ids: of the conversation.
        index: of the first call.
        is_alone: whether there is no bracket around.
    """

    open_id = None

    def __init__(self, ids: CallIds, index: int, *, is_alone: bool) -> None:
        self._ids, self._index, self._is_alone = ids, index, is_alone
        self._element: list[str] = []  # characters of the object that is open
        self._scanner = JsonScanner()
        self.is_closed = False

    def push(self, char: str) -> list[ToolCallDelta | ToolCallDone]:
        """Take a character behind the opening bracket.

        Raises:
            NotACallError: if this is no array of calls.
        """
        if self._element or char == "{":
            return self._take(char)
        if char == "]":
            self.is_closed = True
        elif not (char.isspace() or char == ","):
            raise NotACallError("an array of calls holds objects only")
        return []

    def new_piece(self) -> list[ToolCallDelta]:
        """Nothing: the name or the id may stand behind the arguments, so a call comes as a whole."""
        return []

    def control(self, token: str) -> None:
        """Take a control token.

        Raises:
            NotACallError: for those that belong to the other form.
        """
        raise NotACallError(f"{token} in an array of calls")

    def finish(self) -> list[ToolCallDelta | ToolCallDone]:
        """Nothing: an object that has not ended is no call."""
        return []

    def _take(self, char: str) -> list[ToolCallDelta | ToolCallDone]:
        self._element.append(char)
        self._scanner.push(char)
        if self._scanner.depth > 0:
            return []
        call = _read_call("".join(self._element), self._ids)
        self._element, self.is_closed = [], self._is_alone
        self._index += 1
        return [
            ToolCallDelta(self._index - 1, call.id, call.name, call.arguments),
            ToolCallDone(self._index - 1, call),
        ]


def _read_call(element: str, ids: CallIds) -> ToolCall:
    """Read one object.

    Raises:
        NotACallError: if it is no call.
    """
    try:
        members = object_members(element)
        name = read_json(members["name"])
        call_id = read_json(members.get("id", "null"))
        arguments = members.get("arguments", "{}")
        if arguments.startswith('"'):
            arguments = read_json(arguments)  # JSON within JSON, as the API has it
    except (ValueError, KeyError) as error:
        raise NotACallError(f"no call: {error}") from error
    if is_no_arguments(arguments):
        arguments = "{}"
    return ToolCall(ids.claim(call_id if isinstance(call_id, str) else None), check_name(name), check_object(arguments))
