"""Grammars as text, in llguidance's dialect of Lark.

JSON is written as Python's json.dumps writes it, on one line with ", " and ": ": that is how mistral_common encodes calls,
and because llguidance repeats any whitespace that it allows without end, it is the only way to bound an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mistral_local.errors import GrammarError
from mistral_local.sampling.grammar import GrammarLimits
from mistral_local.tokenizer.tokenizer import Tokenizer

TEXT = r"/(.|\n)*/"
"""Any text; never a control token."""

SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""What llguidance's option "x-guidance" says for JSON on one line."""


@dataclass(frozen=True, slots=True)
class Body:
    """An expression that is a whole answer, or the end of one.

    Attributes:
        inner: the grammar that the expression calls @inner, if it does.
    """

    expression: str
    inner: str | None = None

    def grammar(self) -> str:
        """The whole grammar, as llguidance reads it."""
        outer = f'%llguidance {{"no_forcing": true}}\nstart: {self.expression}'
        if self.inner is None:
            return outer
        return json.dumps({"grammars": [{"lark_grammar": outer}, {"name": "inner", "lark_grammar": self.inner}]})


def literal(text: str) -> str:
    """An expression that is this text."""
    return json.dumps(text, ensure_ascii=False)


def text_start(tokenizer: Tokenizer, *, starts_text: bool = True) -> str:
    """An expression for what stands before a text, at the beginning of an answer and after a control token."""
    return literal(" ") if starts_text and tokenizer.marks_start else ""


def control(token_id: int) -> str:
    """An expression that is one control token."""
    return f"<[{token_id}]>"


def regex(pattern: str) -> str:
    """An expression that is any text which a regular expression matches as a whole (Rust's syntax)."""
    escaped, previous = "", ""
    for char in pattern:
        escaped += "\\/" if char == "/" and previous != "\\" else "\\n" if char == "\n" else char
        previous = "" if previous == "\\" else char
    return f"/{escaped}/"


def json_value(schema: Any, limits: GrammarLimits, *, is_strict: bool = True) -> str:
    """An expression that is any instance of a JSON schema.

    Args:
        schema: as Python values.
        is_strict: refuse what llguidance cannot hold an answer to; otherwise those keywords are passed over.

    Raises:
        GrammarError: if the schema is no JSON, or beyond the limits.
    """
    if schema is True:
        schema = {}
    if not isinstance(schema, Mapping):
        raise GrammarError(
            f"schema: expected a JSON schema, which is an object, or a Pydantic model, got {schema!r:.80}"
        )
    check_schema_work(schema, limits)
    options = SEPARATORS if is_strict else SEPARATORS | {"lenient": True}
    try:
        text = json.dumps({**schema, "x-guidance": options}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GrammarError(f"schema: not JSON: {error}") from error
    if (num_bytes := len(text.encode(errors="replace"))) > limits.max_schema_bytes:
        raise GrammarError(f"schema: {num_bytes} bytes, at most {limits.max_schema_bytes} are allowed")
    return f"%json {text}"


def check_schema_work(schema: Any, limits: GrammarLimits) -> None:
    """Refuse schemas that nest too deep, or whose arrays together may have too many items: each costs a rule.

    Raises:
        GrammarError: naming the limit.
    """
    num_items = 0.0
    unread: list[tuple[Any, int]] = [(schema, 1)]
    while unread:
        node, depth = unread.pop()
        if depth > limits.max_schema_depth:
            raise GrammarError(f"schema: nested deeper than {limits.max_schema_depth} levels")
        if isinstance(node, Mapping):
            num_items += node["maxItems"] if isinstance(node.get("maxItems"), int | float) else 0
            if num_items > limits.max_schema_items:
                raise GrammarError(f"schema: maxItems of all arrays together is above {limits.max_schema_items}")
            unread += [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list | tuple):
            unread += [(child, depth + 1) for child in node]
