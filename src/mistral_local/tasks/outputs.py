"""What an answer is made of: events while it streams, and the whole of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mistral_local.tools.call import BrokenToolCall, ToolCall, ToolCallDelta, ToolCallDone

__all__ = [
    "Answer",
    "BrokenToolCall",
    "Event",
    "EventStream",
    "FinishReason",
    "Finished",
    "ReasoningDelta",
    "TextDelta",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallDone",
    "Usage",
    "answer_message",
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
    """More text of the answer; never half a character, never part of a stop string."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thought between [THINK] and [/THINK]; never half a character."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was chosen, before the text that it makes certain; only if logprobs were asked for.

    Attributes:
        token_id: its id.
        text: what it spells, control tokens by their names; a part of a character becomes U+FFFD.
        bytes: what it adds to the text; none for control tokens.
        logprob: its log-softmax of the untempered logits.
        top: the likeliest tokens at its place in the same form, each with an empty `top`.
    """

    token_id: int
    text: str
    bytes: bytes
    logprob: float
    top: "tuple[TokenLogprob, ...]" = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer.

    Attributes:
        raw_text: everything the model wrote, control tokens spelled out; nothing is ever lost.
    """

    finish_reason: FinishReason
    usage: Usage
    raw_text: str = ""


Event = TextDelta | ReasoningDelta | ToolCallDelta | ToolCallDone | BrokenToolCall | TokenLogprob | Finished


class EventStream(Iterator[Event], Protocol):
    """The events of an answer while it is written; the last one is Finished."""

    def close(self) -> None:
        """Stop the answer; no more events come."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        text: what the model wrote as text; a call that could not be read stands in it as it was written.
        tool_calls: the functions it asked for, in order; each has a name, and a JSON object as arguments.
        raw_text: everything the model wrote, control tokens spelled out; nothing is ever lost.
        reasoning: what it thought before it answered.
        broken_calls: the calls that could not be read.
        logprobs: of each token, if asked for.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()
    raw_text: str = ""
    reasoning: str = ""
    broken_calls: tuple[BrokenToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    def message(self) -> dict[str, Any]:
        """The answer as a message of the Mistral API, to go on with."""
        return answer_message(self.text, self.reasoning, self.tool_calls)


def answer_message(text: str, reasoning: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """An answer as a message of the Mistral API; reasoning is a chunk before the text."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning:
        chunks = [{"type": "text", "text": text}] if text else []
        message["content"] = [{"type": "thinking", "thinking": reasoning}, *chunks]
    if calls:
        message["tool_calls"] = [call.as_message_part() for call in calls]
    return message
