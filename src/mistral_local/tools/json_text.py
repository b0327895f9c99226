"""JSON as text: where a value ends while it arrives, and what the members of an object look like."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\n\r]*")
_OPEN, _CLOSE = "{[", "}]"


class JsonScanner:
    """Follows JSON text character by character.

    Attributes:
        depth: how many objects and arrays are open.
        in_string: whether the next character belongs to a string.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self._is_escaped = False

    def push(self, char: str) -> None:
        """Take the next character."""
        if self.in_string:
            if self._is_escaped:
                self._is_escaped = False
            elif char == "\\":
                self._is_escaped = True
            elif char == '"':
                self.in_string = False
        elif char == '"':
            self.in_string = True
        elif char in _OPEN:
            self.depth += 1
        elif char in _CLOSE:
            self.depth -= 1


def read_json(text: str) -> Any:
    """The value of a JSON text that can be written out again as UTF-8.

    Raises:
        ValueError: if it is none: bad syntax, NaN, too many digits, half a surrogate pair, nested too deep.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def object_members(text: str) -> dict[str, str]:
    """The members of a JSON object, each value as the text that it is.

    >>> object_members('{"a": 1.50, "b": {"c": []}}')
    {'a': '1.50', 'b': '{"c": []}'}

    Raises:
        ValueError: if the text is no JSON object.
    """
    if not isinstance(read_json(text), dict):
        raise ValueError("no JSON object")
    members: dict[str, str] = {}
    decoder = json.JSONDecoder()
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        _, end = decoder.raw_decode(text, at)
        members[name] = text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def _skip(text: str, at: int) -> int:
    """The position of the next character that is no white space."""
    match = _SPACE.match(text, at)
    assert match is not None, "the pattern matches the empty text"
    return match.end()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
