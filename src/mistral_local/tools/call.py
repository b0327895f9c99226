"""A function call that a model writes: the whole of it, and its events while it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks to be called.

    Attributes:
        id: nine letters and digits, unique in the conversation.
        name: the function's name as the model wrote it; one that was never offered is possible.
        arguments: its arguments, a JSON object as the text that the model wrote.
    """

    id: str
    name: str
    arguments: str

    def as_message_part(self) -> dict[str, Any]:
        """The call as it stands under `tool_calls` of an assistant message of the API."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call while it is written: to show progress, not yet to be trusted.

    Attributes:
        index: position of the call in the answer, if it turns out well.
        id, name: of the call; they do not change from piece to piece.
        arguments: more of the JSON text; all pieces of one id are the arguments.
    """

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDone:
    """A call is complete: it has a name, and its arguments are a JSON object."""

    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class BrokenToolCall:
    """What begins like a call and is none: never to be executed, part of the answer's text as it was written.

    Attributes:
        text: what the model wrote, control tokens spelled out.
        reason: "cut" if a limit ended the answer in the middle of it, "malformed" if it is no call.
        id: of the pieces that were given out for it; None if there were none.
    """

    text: str
    reason: Literal["cut", "malformed"]
    id: str | None = None


CallEvent = ToolCallDelta | ToolCallDone | BrokenToolCall
