"""Which tokens of an encoded conversation come from which message."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

_ENCODERS = ("encode_user_message", "encode_assistant_message", "encode_tool_message", "encode_system_message")


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens with one source.

    Attributes:
        role: of the messages; "start" for what stands before all of them.
        messages: places of the messages in the request; several if mistral_common has joined them, none if it has made
            this one up.
        tokens: their ids, in order.
    """

    role: str
    messages: tuple[int, ...]
    tokens: tuple[int, ...]


def chat_spans(tokenizer: MistralTokenizer[Any, Any, Any, Any, Any], request: ChatCompletionRequest[Any]) -> list[Span]:
    """Encode a conversation as encode_chat_completion does, watching its encoder work from message to message.

    Raises:
        As encode_chat_completion.
    """
    validated = tokenizer._chat_completion_request_validator.validate_request(request)
    normalized = tokenizer._instruct_request_normalizer.from_chat_completion_request(validated)
    encoder = copy.copy(tokenizer.instruct_tokenizer)
    encoded: list[tuple[Any, list[int]]] = []
    for name in _ENCODERS:
        _watch(encoder, name, encoded)
    tokens = list(encoder.encode_instruct(normalized).tokens)

    origins = _origins(request.messages, normalized.messages)
    start = tokens[: len(tokens) - sum(len(part) for _, part in encoded)]
    spans = [Span("start", (), tuple(start))]
    spans += [
        Span(str(message.role), places, tuple(part)) for (message, part), places in zip(encoded, origins, strict=True)
    ]
    assert [token for span in spans for token in span.tokens] == tokens, "messages are encoded one after the other"
    return spans


def _watch(encoder: Any, name: str, encoded: list[tuple[Any, list[int]]]) -> None:
    """Let one of an encoder's methods note its message and tokens."""
    method = getattr(encoder, name)

    def watched(message: Any = None, *args: Any, **named: Any) -> Any:
        result = method(message, *args, **named) if message is not None else method(*args, **named)
        tokens = result[0] if isinstance(result, tuple) else result
        encoded.append((message if message is not None else named["message"], list(tokens)))
        return result

    setattr(encoder, name, watched)


def _origins(messages: Sequence[Any], normalized: Sequence[Any]) -> list[tuple[int, ...]]:
    """For each normalized message the places of those that it was made of.

    mistral_common joins neighbours of one role, puts results of calls in the order of the calls, moves system messages
    into a user message before v7, and may put an empty user message first.
    """
    runs = [
        (role, [place for place, _ in run])
        for role, run in itertools.groupby(enumerate(messages), key=lambda item: item[1].role)
    ]
    keeps_system = any(message.role == "system" for message in normalized)
    expected: list[tuple[str, tuple[int, ...]]] = []
    for role, places in runs:
        if role == "tool" or (role == "system" and keeps_system):
            expected += [(role, (place,)) for place in places]
        elif role != "system":
            expected.append((role, tuple(places)))
    result: list[tuple[int, ...]] = []
    for message in normalized:
        fitting = [item for item in expected if item[0] == message.role]
        if not fitting or (not result and expected[0][0] != message.role):
            result.append(())
            continue
        chosen = fitting[0]
        if message.role == "tool":
            same = [item for item in fitting if messages[item[1][0]].tool_call_id == message.tool_call_id]
            chosen = (same or fitting)[0]
        expected.remove(chosen)
        result.append(chosen[1])
    return result
