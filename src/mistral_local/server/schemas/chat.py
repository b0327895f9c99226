"""The body of a chat request: what the clients of Mistral, OpenAI and Azure send, in one."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mistral_local.server.errors import ApiError
from mistral_local.server.schemas.conversation import Message, ResponseFormat, Tool, ToolChoice
from mistral_local.server.schemas.generation import ScoredBody, check_count
from mistral_local.server.schemas.values import Flag, Integer, NoEffect, Text, given
from mistral_local.server.settings import Limits

Object = dict[str, Any]


class ChatBody(ScoredBody):
    """A conversation, and how it is to be answered; mistral_common validates messages and tools."""

    messages: Annotated[list[Message], Field(min_length=1)]
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: Flag | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Text | None = None
    safe_prompt: Flag | None = None
    max_completion_tokens: Annotated[Integer, Field(ge=0)] | None = None
    modalities: list[Literal["text"]] | None = None
    prediction: NoEffect = None
    store: NoEffect = None

    FIELDS: ClassVar = (
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "safe_prompt",
    )

    @property
    def token_limit(self) -> int | None:
        """Most new tokens, by either of its names."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def fields(self) -> Object:
        """Fields of a chat request beside its messages."""
        fields = given(self, self.FIELDS)
        if not self.tools:
            fields.pop("tools", None)
        return fields

    def check(self, limits: Limits) -> None:
        """Refuse what one request may not ask for; errors as in GenerationBody."""
        super().check(limits)
        check_count("messages", len(self.messages), limits.messages)
        check_count("tools", len(self.tools or ()), limits.tools)
        if all(message.get("role") in ("system", "developer") for message in self.messages):
            raise ApiError(400, "messages: there is nothing to answer after the system message", param="messages")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            message = "max_tokens and max_completion_tokens are two names of one option"
            raise ApiError(422, message, param="max_completion_tokens")
