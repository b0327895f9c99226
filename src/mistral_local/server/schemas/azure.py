"""Bodies of the Azure AI inference routes: those of chat and embeddings, with Azure's names and its own way with extras.

A field that nobody knows is refused unless the `extra-parameters` header (`extra-params` in the JavaScript client)
says that it may be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mistral_local.server.errors import ApiError
from mistral_local.server.schemas.chat import ChatBody
from mistral_local.server.schemas.embeddings import EmbeddingsBody
from mistral_local.server.schemas.values import Flag

HEADERS = ("extra-parameters", "extra-params")
REFUSING, TAKING = ("error",), ("pass-through", "passthrough", "drop", "ignore")


class AzureChatBody(ChatBody):
    """A conversation as Azure's clients send it; there `safe_prompt` is also called `safe_mode`."""

    model_config = ConfigDict(extra="allow")

    safe_mode: Flag | None = None

    def fields(self) -> dict[str, Any]:
        """Fields of a chat request beside its messages."""
        return super().fields() | ({"safe_prompt": True} if self.safe_mode else {})


class AzureEmbeddingsBody(EmbeddingsBody):
    """Texts as Azure's clients send them; a text is embedded alike whatever it is for."""

    model_config = ConfigDict(extra="allow")

    input_type: Literal["text", "query", "document"] | None = None


def check_extras(body: BaseModel, headers: Mapping[str, str]) -> None:
    """Refuse fields that nobody knows, unless a header allows them.

    Raises:
        ApiError: 422, naming a field; or 400, if the header says something else.
    """
    said = next((headers[name].strip().lower() for name in HEADERS if name in headers), "error")
    if said not in REFUSING + TAKING:
        raise ApiError(400, f"extra-parameters: expected {', '.join(REFUSING + TAKING)}, got {said!r}")
    if body.model_extra and said in REFUSING:
        name = next(iter(body.model_extra))
        raise ApiError(422, f"{name}: there is no such field; extra-parameters: drop would leave it out", param=name)
