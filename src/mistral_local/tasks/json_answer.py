"""The JSON object in an answer, where a model was asked for one in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mistral_local.errors import AnswerError

SYSTEM = 'You are a Python programmer.\nReturn Python code as a JSON object with a single "code" property.'
"""What the code-interpreter guide tells the model."""

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


def json_member(text: str, key: str) -> Any:
    """The member of the first JSON object in a text that has it.

    The text may be the object itself, hold it in a fenced block, or hold it anywhere.

    Raises:
        AnswerError: if there is none.
    """
    for candidate in _objects(text):
        if key in candidate:
            return candidate[key]
    raise AnswerError(f'the answer holds no JSON object with "{key}": {" ".join(text.split())[:80]!r}', text)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for part in (text, *_FENCED.findall(text)):
        try:
            value = json.loads(part, strict=False)  # models write line breaks into strings
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
    decoder = json.JSONDecoder(strict=False)
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
            yield value
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
