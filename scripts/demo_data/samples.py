"""What the generators produce: conversations, infillings and plain text, before tokenization."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.tool_calls import Function, FunctionCall, Tool, ToolCall

Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat whose assistant messages are supervised."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()


@dataclass(frozen=True, slots=True)
class Infill:
    """Text with a hole; the middle is supervised."""

    prefix: str
    middle: str
    suffix: str


@dataclass(frozen=True, slots=True)
class PlainText:
    """Raw text, supervised whole."""

    text: str


Sample = Conversation | Infill | PlainText


def make_tool(name: str, description: str, parameters: dict[str, Any]) -> Tool:
    """Return a function tool; parameters is a JSON schema of type object."""
    return Tool(function=Function(name=name, description=description, parameters=parameters))


def calls(*named: tuple[str, dict[str, Any]]) -> AssistantMessage:
    """Return an assistant message that calls tools, each given as (name, arguments)."""
    return AssistantMessage(
        content=None,
        tool_calls=[
            ToolCall(
                id=call_id(i), function=FunctionCall(name=name, arguments=json.dumps(arguments, ensure_ascii=False))
            )
            for i, (name, arguments) in enumerate(named)
        ],
    )


def says(text: str) -> AssistantMessage:
    """Return an assistant message of plain text."""
    return AssistantMessage(content=text)


def result(name: str, content: str, index: int = 0) -> ToolMessage:
    """Return the result of the call with this index in its message."""
    return ToolMessage(name=name, content=content, tool_call_id=call_id(index))


def call_id(index: int) -> str:
    """Return an id as mistral_common requires it; version 13 does not render it."""
    return f"demo{index:05d}"


def awaits_result(messages: Sequence[Message]) -> bool:
    """Say whether the last message is a call."""
    return bool(messages) and isinstance(messages[-1], AssistantMessage) and bool(messages[-1].tool_calls)
