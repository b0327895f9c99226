"""Function calls in an answer, in the formats of all tokenizer versions.

v2 .. v7    [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]
v11         [TOOL_CALLS]f[CALL_ID]id[ARGS]{...}        the id optional; one marker per call
v13, v15    [TOOL_CALLS]f[ARGS]{...}                   one marker per call
"""

import json
import re
from typing import Any, NoReturn

from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.call import ToolCall, new_call_id

_ID = re.compile(r"[a-zA-Z0-9]{9}")


class ToolCallParser:
    """Reads the tokens of an answer from its first [TOOL_CALLS] on."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.marker_id = tokenizer.control_id("[TOOL_CALLS]")
        self._args_id = tokenizer.control_id("[ARGS]")
        self._call_id_id = tokenizer.control_id("[CALL_ID]")

    def parse(self, tokens: list[int], *, is_cut: bool) -> list[ToolCall] | None:
        """Read every call, or None if any of them is not well formed (cut off, or no JSON object).

        Args:
            tokens: what the model wrote, starting with the marker, without EOS.
            is_cut: whether a limit ended the answer; arguments that have not begun are then missing, not empty.
        """
        calls: list[ToolCall] = []
        segments = _split(tokens[1:], self.marker_id)
        for segment in segments:
            parsed = self._parse_segment(segment, is_cut=is_cut and segment is segments[-1])
            if not parsed:
                return None
            calls += parsed
        return calls

    def _parse_segment(self, tokens: list[int], *, is_cut: bool) -> list[ToolCall] | None:
        if self._args_id is None or self._args_id not in tokens:
            return _parse_array(self._tokenizer.decode(tokens))
        head, arguments = _cut(tokens, self._args_id)
        name, call_id = _cut(head, self._call_id_id) if self._call_id_id in head else (head, [])
        name_text, id_text, arguments_text = map(self._tokenizer.decode, (name, call_id, arguments))
        if is_cut and not arguments_text.strip():
            return None
        return _parse_named(name_text, id_text, arguments_text)


def _split(tokens: list[int], marker: int | None) -> list[list[int]]:
    segments: list[list[int]] = [[]]
    for token in tokens:
        if token == marker:
            segments.append([])
        else:
            segments[-1].append(token)
    return segments


def _cut(tokens: list[int], at: int | None) -> tuple[list[int], list[int]]:
    index = tokens.index(at) if at is not None else len(tokens)
    return tokens[:index], tokens[index + 1 :]


def _parse_named(name: str, call_id: str, arguments: str) -> list[ToolCall] | None:
    arguments = arguments.strip() or "{}"
    if not name.strip() or not isinstance(_json(arguments), dict):
        return None
    call_id = call_id.strip()
    return [ToolCall(call_id if _ID.fullmatch(call_id) else new_call_id(), name.strip(), arguments)]


def _parse_array(text: str) -> list[ToolCall] | None:
    items = _json(text.strip())
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    calls = []
    for item in items:
        name, arguments, call_id = item.get("name"), item.get("arguments", {}), item.get("id")
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        is_usable = isinstance(call_id, str) and _ID.fullmatch(call_id)
        calls.append(ToolCall(call_id if is_usable else new_call_id(), name, json.dumps(arguments, ensure_ascii=False)))
    return calls


def _json(text: str) -> Any:
    """The value of a JSON text; None if it is none, or one that could not be written out again as UTF-8."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # ValueError: bad JSON, too many digits, half a surrogate pair
        return None
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
