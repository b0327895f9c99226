"""Conversations: from the messages of the Mistral API to mistral_common's request."""

from collections.abc import Iterable, Mapping
from typing import Any

from mistral_common.protocol.instruct.chunk import ChunkTypes
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from pydantic import BaseModel, ValidationError

from mistral_local.errors import RequestError

Message = Mapping[str, Any] | BaseModel
"""{"role": "user", "content": "..."} as in the Mistral API, or a message of mistral_common."""


def chat_request(
    messages: Iterable[Message], tools: Iterable[Mapping[str, Any] | BaseModel] | None = None
) -> ChatCompletionRequest[Any]:
    """Build mistral_common's request.

    Raises:
        RequestError: if a message or tool has not the form of the API, or holds something else than text; the field is
            named.
    """
    fields: dict[str, Any] = {"messages": [_plain(message) for message in messages]}
    if tools is not None:
        fields["tools"] = [_plain(tool) for tool in tools]
    try:
        request: ChatCompletionRequest[Any] = ChatCompletionRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    _check_is_text(request)
    return request


def _check_is_text(request: ChatCompletionRequest[Any]) -> None:
    """Refuse images and audio before mistral_common opens what their URLs name: nothing here could look at them."""
    for index, message in enumerate(request.messages):
        for chunk in message.content if isinstance(message.content, list) else ():
            if chunk.type not in (ChunkTypes.text, ChunkTypes.thinking):
                raise RequestError(
                    f"messages.{index}.content: only text is supported, found {ChunkTypes(chunk.type).value}"
                )


def _plain(item: Mapping[str, Any] | BaseModel) -> Any:
    return dict(item) if isinstance(item, Mapping) else item
