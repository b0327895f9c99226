"""Bodies of moderation requests."""

from __future__ import annotations

from typing import Annotated, Literal, TypeGuard

from pydantic import Field

from mistral_local.server.schemas.conversation import Message
from mistral_local.server.schemas.generation import check_count
from mistral_local.server.schemas.values import Body, NoEffect, Text
from mistral_local.server.settings import Limits


class TextPart(Body):
    """A part of one input, as OpenAI's clients send it; of images there are none here."""

    type: Literal["text"]
    text: Text


class ModerationBody(Body):
    """Texts to judge, for the clients of Mistral and OpenAI; a list of parts is one text."""

    model: Text | None = None
    input: Text | Annotated[list[Text], Field(min_length=1)] | Annotated[list[TextPart], Field(min_length=1)]
    metadata: NoEffect = None

    @property
    def texts(self) -> list[str]:
        """Each text."""
        if isinstance(self.input, str):
            return [self.input]
        parts = [part.text for part in self.input if isinstance(part, TextPart)]
        return ["\n".join(parts)] if parts else [text for text in self.input if isinstance(text, str)]

    def check(self, limits: Limits) -> None:
        """Refuse more texts than one request may have.

        Raises:
            ApiError: 422, naming the field.
        """
        check_count("input", len(self.texts), limits.moderations)


class ChatModerationBody(Body):
    """Conversations whose last messages are to be judged."""

    model: Text | None = None
    input: (
        Annotated[list[Message], Field(min_length=1)]
        | Annotated[list[Annotated[list[Message], Field(min_length=1)]], Field(min_length=1)]
    )
    truncate_for_context_length: Literal[False] | None = None

    @property
    def conversations(self) -> list[list[Message]]:
        """Each conversation."""
        return (
            self.input if _are_lists(self.input) else [[message for message in self.input if isinstance(message, dict)]]
        )

    def check(self, limits: Limits) -> None:
        """Refuse more than one request may have; errors as in ModerationBody."""
        check_count("input", len(self.conversations), limits.moderations)
        for messages in self.conversations:
            check_count("input", len(messages), limits.messages)


def _are_lists(conversations: list[Message] | list[list[Message]]) -> TypeGuard[list[list[Message]]]:
    return isinstance(conversations[0], list)
