"""Function calls as a grammar, in the form that a tokenizer's version was trained on.

The texts are those of mistral_common's encoding: JSON on one line, `name` before `arguments`.  An id may follow where the
version has one; whoever reads the answer gives ids to calls without.
"""

from __future__ import annotations

from collections.abc import Sequence

from mistral_common.protocol.instruct.tool_calls import Tool

from mistral_local.errors import GrammarError, RequestError
from mistral_local.sampling.grammar import GrammarLimits
from mistral_local.tasks.lark import control, json_value, literal, text_start
from mistral_local.tokenizer.tokenizer import Tokenizer

MAX_CALLS = 16
"""Most calls of one answer that is held to a grammar."""

CALL_TOKENS = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
ANY_OBJECT = {"type": "object"}
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
ARRAY_VERSIONS = ("v2", "v3", "v7")
_ID = "/[a-zA-Z0-9]{9}/"


class CallGrammar:
    """Writes the grammar of calls for one tokenizer.

    Raises:
        RequestError: if it has no function calls.
    """

    def __init__(self, tokenizer: Tokenizer, limits: GrammarLimits) -> None:
        self._limits = limits
        self._version = tokenizer.version
        self._start = text_start(tokenizer)
        marker, self._call_id, self._args = map(tokenizer.control_id, CALL_TOKENS)
        if marker is None:
            raise RequestError(f"tool_choice: tokenizer {tokenizer.version} has no function calls")
        self._marker = control(marker)

    def calls(self, tools: Sequence[Tool], *, num_calls: int, is_forced: bool) -> str:
        """An expression that is 1 to `num_calls` calls of these tools.

        Args:
            is_forced: whether calls were asked for: then the arguments of all tools fit their schemas, those of tools that
                are not strict as far as llguidance can hold them to it.  Otherwise they may be any object.

        Raises:
            GrammarError: if a tool's parameters are refused.
        """
        arguments = [self.arguments(tool, is_forced=is_forced) for tool in tools]
        names = [tool.function.name for tool in tools]
        if self._version not in ARRAY_VERSIONS:
            one = " | ".join(map(self._named_call, names, arguments))
            return f"({one}){{1,{num_calls}}}"
        one = " | ".join(map(self._object_call, names, arguments))
        begin, comma, end = map(literal, ("[", ", ", "]"))
        more = f"({comma} ({one})){{0,{num_calls - 1}}}" if num_calls > 1 else ""
        return f"{self._marker} {self._start} {begin} ({one}) {more} {end}"

    def _object_call(self, name: str, arguments: str) -> str:
        """v2 to v7: {"name": "f", "arguments": {...}}, from v3 on perhaps with an id."""
        begin, before_id, quote, end = map(literal, (f'{{"name": "{name}", "arguments": ', ', "id": "', '"', "}"))
        call_id = "" if self._version == "v2" else f"({before_id} {_ID} {quote})?"
        return f"{begin} {arguments} {call_id} {end}"

    def _named_call(self, name: str, arguments: str) -> str:
        """From v11 on: [TOOL_CALLS]f[ARGS]{...}; v11 itself perhaps with [CALL_ID] and an id."""
        assert self._args is not None
        has_id = self._version == "v11" and self._call_id is not None
        call_id = f"({control(self._call_id)} {self._start} {_ID})?" if has_id and self._call_id is not None else ""
        head = f"{self._marker} {self._start} {literal(name)} {call_id}"
        return f"{head} {control(self._args)} {self._start} {arguments}"

    def arguments(self, tool: Tool, *, is_forced: bool) -> str:
        """An expression that is the arguments of one tool; errors as in calls()."""
        function = tool.function
        schema = function.parameters or NO_ARGUMENTS
        if schema.get("type", "object") != "object":
            raise GrammarError(f"tool {function.name}: parameters must be of type object, found {schema['type']!r}")
        if not (is_forced or function.strict):
            schema = ANY_OBJECT
        try:
            return json_value({"type": "object", **schema}, self._limits, is_strict=function.strict)
        except GrammarError as error:
            raise GrammarError(f"tool {function.name}: {error}") from error
