"""What the model sees of a request, token by token, and how an answer would be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mistral_local.errors import RequestError
from mistral_local.tasks.answer_parser import AnswerParser
from mistral_local.tasks.chat import CHAT_FIELDS, chat_request
from mistral_local.tasks.options import GenerationOptions, read_options
from mistral_local.tasks.outputs import Event, ReasoningDelta, TextDelta, ToolCallDelta
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.call_ids import CallIds

UNSEEN = (
    "model",
    "stream",
    "stream_options",
    "n",
    "random_seed",
    "max_completion_tokens",
    "modalities",
    "prediction",
    "store",
    "metadata",
    "user",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
)
"""Fields of the API that concern the server only."""

_IS_ID = re.compile("[0-9]{1,9}")

_SECTIONS = {
    "[AVAILABLE_TOOLS]": ("[/AVAILABLE_TOOLS]", "tools"),
    "[MODEL_SETTINGS]": ("[/MODEL_SETTINGS]", "settings"),
}


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """A token of a prompt.

    Attributes:
        piece: what it spells; a part of a character is written as bytes.
        source: what of the request it comes from, such as `messages.1 user`.
    """

    id: int
    piece: str
    is_control: bool
    source: str


@dataclass(frozen=True, slots=True)
class ExplainedRequest:
    """A request as the model sees it.

    Attributes:
        ids: the caller's ids of calls that the model sees as others.
        notes: what was left out or changed.
    """

    tokens: list[ExplainedToken]
    ids: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def explain_request(tokenizer: Tokenizer, request: Mapping[str, Any]) -> ExplainedRequest:
    """Encode a request and tell where each token comes from.

    Args:
        request: fields of a chat request (`messages`), of a gap (`prompt` and `suffix`), or of plain text (`prompt`).

    Raises:
        RequestError: if a field cannot be served; it is named.
    """
    options = {name: value for name, value in request.items() if name in GenerationOptions.__dataclass_fields__}
    read_options(options | _with_numbers(options.get("logit_bias")))
    rest = {name: value for name, value in request.items() if name not in options and name not in UNSEEN}
    if "messages" in rest:
        explained = _explain_chat(tokenizer, rest)
    elif "prompt" in rest:
        _refuse_unknown(rest, ("prompt", "suffix"))
        explained = _explain_prompt(tokenizer, rest["prompt"], rest.get("suffix"))
    else:
        raise RequestError("neither messages nor prompt: there is nothing to encode")
    unseen = [name for name in request if name in options or name in UNSEEN]
    notes = [f"the model sees nothing of {', '.join(unseen)}"] if unseen else []
    return replace(explained, notes=(*explained.notes, *notes))


def explain_answer(tokenizer: Tokenizer, answer: str, *, is_cut: bool = False) -> list[Event]:
    """Read an answer as a model with this tokenizer would be read.

    Args:
        answer: what the model wrote, control tokens by their names, as `raw_text` of an answer has it.
        is_cut: whether a limit ended it.
    """
    parser = AnswerParser(tokenizer, call_ids=CallIds())
    events = [event for token in tokens_of_answer(tokenizer, answer) for event in parser.push(token)]
    return _joined(events + parser.finish(is_cut=is_cut))


def tokens_of_answer(tokenizer: Tokenizer, answer: str) -> list[int]:
    """The tokens of an answer in which the names of control tokens stand for them."""
    tokens: list[int] = []
    end = 0
    for match in re.finditer(r"\[/?[A-Z_]+\]|</s>", answer):
        control = tokenizer.control_id(match[0])
        if control is not None:
            tokens += [*tokenizer.encode_text(answer[end : match.start()])[1:], control]
            end = match.end()
    return tokens + tokenizer.encode_text(answer[end:])[1:]


def _joined(events: list[Event]) -> list[Event]:
    """The events with neighbouring pieces of text in one, and without the pieces of calls."""
    joined: list[Event] = []
    for event in events:
        match joined[-1] if joined else None, event:
            case (TextDelta(before), TextDelta(text)):
                joined[-1] = TextDelta(before + text)
            case (ReasoningDelta(before), ReasoningDelta(text)):
                joined[-1] = ReasoningDelta(before + text)
            case (_, ToolCallDelta()):
                pass
            case _:
                joined.append(event)
    return joined


def _explain_chat(tokenizer: Tokenizer, request: Mapping[str, Any]) -> ExplainedRequest:
    _refuse_unknown(request, ("messages", "tools", *CHAT_FIELDS))
    fields = {name: value for name, value in request.items() if name not in ("messages", "tools")}
    messages = request["messages"]
    if not isinstance(messages, list):
        raise RequestError(f"messages: expected a list, got {type(messages).__name__}")
    tools = request.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise RequestError(f"tools: expected a list, got {type(tools).__name__}")
    chat = chat_request(messages, tools, version=tokenizer.version, reasons=tokenizer.can_reason, **fields)
    shift = 1 if fields.get("safe_prompt") else 0
    tokens: list[ExplainedToken] = []
    try:
        spans = tokenizer.chat_spans(chat.request)
    except RequestError as error:
        raise RequestError(chat.call_ids.restore(str(error))) from error
    for span in spans:
        places = [f"messages.{place - shift}" if place >= shift else "safe_prompt" for place in span.messages]
        source = " ".join([" + ".join(places), span.role]).strip() if span.role != "start" else "start"
        tokens += _explained(tokenizer, list(span.tokens), source)
    return ExplainedRequest(tokens, chat.call_ids.stand_ins(), chat.notes)


def _explain_prompt(tokenizer: Tokenizer, prompt: Any, suffix: Any) -> ExplainedRequest:
    for name, value in (("prompt", prompt), ("suffix", suffix)):
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name}: expected a text, got {type(value).__name__}")
    if suffix is None:
        ids = tokenizer.encode_text(prompt)
        return ExplainedRequest([*_explained(tokenizer, ids[:1], "start"), *_explained(tokenizer, ids[1:], "prompt")])
    ids = tokenizer.encode_fim(prompt, suffix)
    middle = len(ids) - 1 - ids[::-1].index(tokenizer.control_id("[PREFIX]") or 0)
    return ExplainedRequest(
        [
            *_explained(tokenizer, ids[:1], "start"),
            *_explained(tokenizer, ids[1:middle], "suffix"),
            *_explained(tokenizer, ids[middle:], "prompt"),
        ]
    )


def _explained(tokenizer: Tokenizer, ids: list[int], source: str) -> Iterator[ExplainedToken]:
    end: str | None = None
    section = source
    for token in ids:
        is_control = tokenizer.is_control(token)
        piece = tokenizer.piece(token) if is_control else _spelled(tokenizer.token_bytes(token))
        if is_control and end is None and piece in _SECTIONS:
            end, section = _SECTIONS[piece]
        yield ExplainedToken(token, piece, is_control, section)
        if is_control and piece == end:
            end, section = None, source


def _spelled(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in content)


def _with_numbers(logit_bias: Any) -> dict[str, Any]:
    """The option with token ids as numbers: JSON writes them as text."""
    if not isinstance(logit_bias, dict):
        return {}
    return {"logit_bias": {int(key) if _IS_ID.fullmatch(key) else key: bias for key, bias in logit_bias.items()}}


def _refuse_unknown(request: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in request:
        if name not in known:
            options = ", ".join((*known, *GenerationOptions.__dataclass_fields__))
            raise RequestError(f"{name}: there is no such field; there are {options}")
