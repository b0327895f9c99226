"""The body of a request to be explained."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from mistral_local.server.schemas.conversation import Message, Tool
from mistral_local.server.schemas.generation import check_count
from mistral_local.server.schemas.values import Text
from mistral_local.server.settings import Limits

Object = dict[str, Any]


class TokenizeBody(BaseModel):
    """A request for any of the routes that generate: a conversation, a gap or a text, with all of its options."""

    model_config = ConfigDict(extra="allow")

    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    prompt: Text | None = None
    suffix: Text | None = None

    def request(self) -> Object:
        """The fields that are given."""
        return {name: value for name, value in self if value is not None}

    def check(self, limits: Limits) -> None:
        """Refuse what one request may not have.

        Raises:
            ApiError: 422, naming the field.
        """
        check_count("messages", len(self.messages or ()), limits.messages)
        check_count("tools", len(self.tools or ()), limits.tools)
