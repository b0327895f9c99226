"""Messages as callers write them, made into what mistral_common's messages take; nothing is changed in place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from pydantic import BaseModel

from mistral_local.errors import RequestError
from mistral_local.tools.call_ids import CallIds
from mistral_local.tools.call_text import NotACallError, check_object, is_no_arguments

Message = Mapping[str, Any] | BaseModel
"""{"role": "user", "content": "..."} as in the Mistral API or OpenAI's, or a message of mistral_common."""

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where other runtimes put what the model thought."""


def plain_message(message: Any, index: int) -> Any:
    """A copy of a message: fields that are None are left out, calls are checked, reasoning becomes a chunk.

    Args:
        index: its place, for the error.

    Raises:
        RequestError: if a call's arguments are no JSON object; mistral_common would let them pass.
    """
    if isinstance(message, BaseModel):
        message = {name: getattr(message, name) for name in type(message).model_fields}
    if not isinstance(message, Mapping):
        return message
    plain = {name: value for name, value in message.items() if value is not None}
    if isinstance(plain.get("tool_calls"), list):
        plain["tool_calls"] = [
            _plain_call(call, f"messages.{index}.tool_calls.{place}") for place, call in enumerate(plain["tool_calls"])
        ]
    if isinstance(plain.get("content"), list):
        plain["content"] = [_plain_chunk(chunk) for chunk in plain["content"]]
    if plain.get("role") == "developer":  # OpenAI's newer word
        plain["role"] = "system"
    if plain.get("role") == "assistant":
        _move_reasoning(plain)
    return plain


def call_ids_of(messages: list[Any]) -> Iterator[str]:
    """All ids of calls and their results, in order."""
    for message in messages:
        if isinstance(message, Mapping):
            ids = [call.get("id") for call in _calls(message) if isinstance(call, Mapping)]
            for call_id in [*ids, message.get("tool_call_id")]:
                if _is_id(call_id):
                    yield call_id


def with_ids(message: Any, ids: CallIds) -> Any:
    """The message with ids that every tokenizer takes."""
    if not isinstance(message, Mapping):
        return message
    message = dict(message)
    if _is_id(message.get("tool_call_id")):
        message["tool_call_id"] = ids.inner(message["tool_call_id"])
    if calls := _calls(message):
        message["tool_calls"] = [
            {**call, "id": ids.inner(call["id"])} if isinstance(call, Mapping) and _is_id(call.get("id")) else call
            for call in calls
        ]
    return message


def leave_out_text_beside_calls(messages: list[Any]) -> list[str]:
    """Remove the text of messages that have calls as well, in place; returns a note for each text.

    Tokenizers v1 to v3 encode either, and mistral_common refuses both.  Models write both all the same.
    """
    notes = []
    for index, message in enumerate(messages):
        if isinstance(message, dict) and message.get("tool_calls") and message.get("content"):
            if str(message["content"]).strip():
                notes.append(
                    f"messages.{index}: the text beside the calls is not shown to the model; its tokenizer has no "
                    "place for both"
                )
            del message["content"]
    return notes


def leave_out_reasoning(messages: list[Any]) -> list[str]:
    """Remove what the model thought from its messages, in place; returns a note for each.

    Only tokenizers from v13 on have a place for it; histories of other models bring it along all the same.
    """
    notes = []
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) and message.get("role") == "assistant" else None
        if isinstance(content, list) and any(_is_thinking(chunk) for chunk in content):
            message["content"] = [chunk for chunk in content if not _is_thinking(chunk)]
            notes.append(
                f"messages.{index}: the reasoning is not shown to the model; its tokenizer has no place for it"
            )
    return notes


def _is_thinking(chunk: Any) -> bool:
    kind = chunk.get("type") if isinstance(chunk, Mapping) else getattr(chunk, "type", None)
    return kind == "thinking"


def _calls(message: Mapping[str, Any]) -> list[Any]:
    """The calls of a message; what is no list is left for mistral_common to refuse."""
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _is_id(call_id: object) -> TypeGuard[str]:
    """Whether it is an id; "null" is mistral_common's word for none."""
    return isinstance(call_id, str) and call_id not in ("", "null")


def _plain_call(call: Any, where: str) -> Any:
    if isinstance(call, BaseModel):
        call = call.model_dump()
    if not isinstance(call, Mapping):
        return call
    plain = {name: value for name, value in call.items() if value is not None and name != "index"}
    function = plain.get("function")
    if isinstance(function, Mapping):
        _check_arguments(function.get("arguments"), f"{where}.function.arguments")
    return plain


def _check_arguments(arguments: Any, where: str) -> None:
    if isinstance(arguments, Mapping):
        try:
            arguments = json.dumps(arguments)
        except (TypeError, ValueError) as error:
            raise RequestError(f"{where}: {error}") from error
    if not isinstance(arguments, str) or is_no_arguments(arguments):
        return
    try:
        check_object(arguments)
    except NotACallError as error:
        raise RequestError(f"{where}: {error}") from error


def _plain_chunk(chunk: Any) -> Any:
    """A content chunk; the hosted API writes the text of a thinking chunk as chunks of its own."""
    if isinstance(chunk, Mapping) and chunk.get("type") == "thinking" and isinstance(chunk.get("thinking"), list):
        parts = [part.get("text", "") for part in chunk["thinking"] if isinstance(part, Mapping)]
        return {**chunk, "thinking": "".join(map(str, parts))}
    return chunk


def _move_reasoning(message: dict[str, Any]) -> None:
    """Make a reasoning field the first chunk of the content; a content that cannot be is left to be refused."""
    texts = [message.pop(name) for name in REASONING_FIELDS if name in message]
    thinking = next((text for text in texts if text), None)
    if thinking is None:
        return
    content = message.get("content") or []
    if not isinstance(content, str | list):
        return
    chunks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    message["content"] = [{"type": "thinking", "thinking": thinking}, *chunks]
