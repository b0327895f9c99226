"""What an answer is made of: events while it streams, and the whole of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from mistral_local.tools.call import ToolCall

__all__ = [
    "Answer",
    "Event",
    "EventStream",
    "FinishReason",
    "Finished",
    "TextDelta",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]

FinishReason = Literal["stop", "length", "tool_calls", "aborted"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer and the time they took.

    Attributes:
        prompt_tokens, completion_tokens: counts; the token that ended the answer is not counted.
        time_to_first_token_s: from the request to the first new token, in seconds.
        decode_tokens_per_s: new tokens after the first per second; 0 when there was at most one.
    """

    prompt_tokens: int
    completion_tokens: int
    time_to_first_token_s: float = 0.0
    decode_tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer; never half a character."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """One complete tool call."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer.

    Attributes:
        raw_text: everything the model wrote, control tokens spelled out; nothing is ever lost.
    """

    finish_reason: FinishReason
    usage: Usage
    raw_text: str = ""


Event = TextDelta | ToolCallDelta | Finished


class EventStream(Iterator[Event], Protocol):
    """The events of an answer while it is written; the last one is Finished."""

    def close(self) -> None:
        """Stop the answer; no more events come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        text: what the model wrote as text, without control tokens.
        tool_calls: the functions it asked for, in order.
        raw_text: everything the model wrote, control tokens spelled out; nothing is ever lost.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    raw_text: str = ""
