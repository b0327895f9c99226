"""Conversations: from the messages of the Mistral API (or OpenAI's) to mistral_common's request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.instruct.chunk import ChunkTypes
from mistral_common.protocol.instruct.messages import AssistantMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from pydantic import BaseModel, ValidationError

from mistral_local.errors import RequestError
from mistral_local.tasks.media import MediaLimits, resolve_media
from mistral_local.tasks.messages import (
    Message,
    call_ids_of,
    leave_out_reasoning,
    leave_out_text_beside_calls,
    plain_message,
    with_ids,
)
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.call_ids import CallIds

SAFE_PROMPT = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)
"""What safe_prompt puts before a conversation, word for word as the Mistral API has it."""

CHAT_FIELDS = ("tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "safe_prompt")
"""Fields of a chat request beside messages, tools and the options of every task."""

ToolDefinition = Mapping[str, Any] | BaseModel


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation ready to be encoded.

    Attributes:
        request: mistral_common's.
        call_ids: which id of the caller stands for which of the request.
        prefix: with what the answer begins, if the last message is the beginning of it.
        notes: what was left out or changed, a line each.
    """

    request: ChatCompletionRequest[Any]
    call_ids: CallIds
    prefix: str = ""
    notes: tuple[str, ...] = ()


def chat_request(
    messages: Iterable[Message],
    tools: Iterable[ToolDefinition] | None = None,
    *,
    version: str = "v13",
    reasons: bool = True,
    safe_prompt: bool = False,
    media: MediaLimits | None = None,
    **fields: Any,
) -> ChatRequest:
    """Build mistral_common's request.

    Args:
        version: of the tokenizer: v1 to v3 cannot encode text and calls in one message, so the text is left out there,
            with a note.
        reasons: whether the tokenizer has a place for reasoning; where it has none, that is left out in the same way.
        safe_prompt: put SAFE_PROMPT before the conversation.
        media: what images and audio may be, for a model that can look at them; None refuses them.
        fields: further fields of mistral_common's request; None is as if not given.

    Raises:
        RequestError: if a message or tool has not the form of the API, or holds media that are not allowed; the field
            is named.
    """
    plain = [plain_message(message, index) for index, message in enumerate(messages)]
    notes = [] if reasons else leave_out_reasoning(plain)
    if version in ("v1", "v2", "v3"):
        notes += leave_out_text_beside_calls(plain)
    ids = CallIds(call_ids_of(plain))
    plain = [with_ids(message, ids) for message in plain]
    if media is not None:
        plain = resolve_media(plain, media)
    if safe_prompt:
        plain.insert(0, {"role": "system", "content": SAFE_PROMPT})
    given = {name: value for name, value in fields.items() if value is not None}
    if tools is not None:
        given["tools"] = [_plain_tool(tool) for tool in tools]
    request = _validated({"messages": plain, **given}, ids)
    if media is None:
        _check_is_text(request)
    return ChatRequest(request, ids, _prefix(request), tuple(notes))


def encode_chat(tokenizer: Tokenizer, chat: ChatRequest) -> list[int]:
    """Encode a conversation by mistral_common.

    Raises:
        RequestError: if it refuses; the error names the caller's own ids.
    """
    try:
        return tokenizer.encode_chat(chat.request)
    except RequestError as error:
        raise RequestError(chat.call_ids.restore(str(error))) from error


def _validated(fields: dict[str, Any], ids: CallIds) -> ChatCompletionRequest[Any]:
    try:
        return ChatCompletionRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(ids.restore(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")) from error
    except MistralCommonException as error:
        raise RequestError(ids.restore(str(error))) from error


def _prefix(request: ChatCompletionRequest[Any]) -> str:
    match request.messages:
        case [*_, AssistantMessage(prefix=True, content=str(text))]:
            return text
    return ""


def _check_is_text(request: ChatCompletionRequest[Any]) -> None:
    """Refuse images and audio before mistral_common opens what their URLs name: nothing here could look at them."""
    for index, message in enumerate(request.messages):
        for chunk in message.content if isinstance(message.content, list) else ():
            if chunk.type not in (ChunkTypes.text, ChunkTypes.thinking):
                raise RequestError(
                    f"messages.{index}.content: only text is supported, found {ChunkTypes(chunk.type).value}"
                )


def _plain_tool(tool: ToolDefinition) -> Any:
    """A tool as mistral_common takes it; OpenAI's clients leave out the parameters of a function that has none."""
    if not isinstance(tool, Mapping):
        return tool
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)
    given = {name: value for name, value in function.items() if value is not None}
    return {**tool, "function": {"parameters": {}, **given}}
