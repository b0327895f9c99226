"""What a request says about the form of its answer, as a grammar for the tokenizer at hand.

| asked for                                    | the answer is held to                                          |
|----------------------------------------------|----------------------------------------------------------------|
| response_format json_object                  | a JSON object                                                  |
| response_format json_schema                  | an instance of the schema; not strict: as far as it can be     |
| tool_choice any, required, or a named tool   | calls whose arguments fit the tool's schema, and nothing else  |
| tool_choice auto with a strict tool, or with | text and calls; arguments of strict tools fit their schema,    |
|   parallel_tool_calls false                  |   those of others are an object                                |
| response_format json with tools, choice auto | JSON or calls                                                  |
| tool_choice none                             | no grammar: the control tokens of calls may not be chosen      |
| regex, lark                                  | that, and nothing else                                         |

A model that may reason does so first, in any of them.  A call has the form that the tokenizer's version was trained on,
written as mistral_common encodes it.

mistral_common has grammars of its own (`mistral_common.guidance`), for Tekken from v11 on.  They serve as the measure of ours
in the tests.  They are not used themselves, because they invite any tool name unless a tool is strict, any whitespace, and
text before a call that was asked for, so that an answer need not end.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mistral_common.protocol.instruct.chunk import ThinkChunk
from mistral_common.protocol.instruct.messages import SystemMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest, ReasoningEffort, ResponseFormats
from mistral_common.protocol.instruct.tool_calls import NamedToolChoice, ToolChoiceEnum
from pydantic import BaseModel

from mistral_local.errors import GrammarError, RequestError
from mistral_local.sampling.grammar import Grammar, GrammarCompiler, GrammarLimits, GrammarVocabulary
from mistral_local.tasks import lark
from mistral_local.tasks.call_grammar import ANY_OBJECT, CALL_TOKENS, MAX_CALLS, CallGrammar
from mistral_local.tasks.lark import text_start
from mistral_local.tokenizer.tokenizer import Tokenizer

Schema = Mapping[str, Any] | bool | type[BaseModel]


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the engine is told about the form of an answer.

    Attributes:
        grammar: None leaves the answer free.
        bad_token_ids: may not be chosen.
    """

    grammar: Grammar | None = None
    bad_token_ids: frozenset[int] = frozenset()


class Constraints:
    """Makes grammars for one tokenizer; any thread may ask, and the last ones are remembered.

    The first grammar arranges the vocabulary, which takes up to a second.
    """

    def __init__(self, tokenizer: Tokenizer, limits: GrammarLimits | None = None) -> None:
        self._tokenizer = tokenizer
        self._limits = limits or GrammarLimits()
        self._compiler: GrammarCompiler | None = None
        self._lock = threading.Lock()

    def chat(self, request: ChatCompletionRequest[Any], *, is_thinking: bool = False) -> Constraint:
        """The form of the answer that a conversation asks for.

        Args:
            is_thinking: whether the prompt ends inside a reasoning.

        Raises:
            RequestError: if what is asked for contradicts itself, or the tokenizer has no function calls.
            GrammarError: if a schema is refused.
        """
        _check_choice(request)
        json_answer = self._json_answer(request)
        if request.tool_choice == ToolChoiceEnum.none or not request.tools:
            bad = self._call_token_ids if request.tool_choice == ToolChoiceEnum.none else frozenset[int]()
            if json_answer is None:
                return Constraint(bad_token_ids=bad)
            return Constraint(self._begun(json_answer, request, is_thinking=is_thinking), bad)
        is_forced = request.tool_choice != ToolChoiceEnum.auto
        is_strict = any(tool.function.strict for tool in request.tools)
        if not (is_forced or is_strict or json_answer) and request.parallel_tool_calls:
            return Constraint()
        calls = self._calls(request, is_forced=is_forced)
        if is_forced:
            body = calls
        elif json_answer is not None:
            body = f"{json_answer} | {calls}"
        else:
            body = f"{lark.TEXT} ({calls})?"
        return Constraint(self._begun(body, request, is_thinking=is_thinking))

    def json_schema(self, schema: Schema, *, starts_text: bool = True) -> Grammar:
        """An instance of a JSON schema, or of a Pydantic model.

        Args:
            starts_text: whether the answer is a text of its own: then SentencePiece marks its start with a space that is
                not part of it.  An answer that goes on in the middle of a text has none.

        Raises:
            GrammarError: if the schema is refused; the reason is named.
        """
        return self._compile(
            f"{text_start(self._tokenizer, starts_text=starts_text)} {lark.json_value(plain_schema(schema), self._limits)}"
        )

    def regex(self, pattern: str, *, starts_text: bool = True) -> Grammar:
        """A text that a regular expression matches as a whole; without look-around and back-references.

        Raises:
            GrammarError: if the pattern is refused; the reason is named.
        """
        if not pattern:
            raise GrammarError("regex: an empty pattern allows no answer")
        return self._compile(f"{text_start(self._tokenizer, starts_text=starts_text)} {lark.regex(pattern)}")

    def lark(self, grammar: str, *, starts_text: bool = True) -> Grammar:
        """A text of a grammar in llguidance's dialect of Lark, beginning at its rule `start`.

        Raises:
            GrammarError: if the grammar is refused; the reason is named.
        """
        return self._compiler_now().compile(lark.nested(text_start(self._tokenizer, starts_text=starts_text), grammar))

    @property
    def _call_token_ids(self) -> frozenset[int]:
        ids = map(self._tokenizer.control_id, CALL_TOKENS)
        return frozenset(token for token in ids if token is not None)

    def _json_answer(self, request: ChatCompletionRequest[Any]) -> str | None:
        wanted = request.response_format
        if wanted.type == ResponseFormats.text:
            return None
        if wanted.json_schema is None:
            return f"{text_start(self._tokenizer)} {lark.json_value(ANY_OBJECT, self._limits)}"
        schema, is_strict = wanted.json_schema.custom_schema, wanted.json_schema.strict
        return f"{text_start(self._tokenizer)} {lark.json_value(schema, self._limits, is_strict=is_strict)}"

    def _calls(self, request: ChatCompletionRequest[Any], *, is_forced: bool) -> str:
        choice = request.tool_choice
        name = choice.function.name if isinstance(choice, NamedToolChoice) else None
        tools = [tool for tool in request.tools or () if name in (None, tool.function.name)]
        num_calls = MAX_CALLS if request.parallel_tool_calls else 1
        return CallGrammar(self._tokenizer, self._limits).calls(tools, num_calls=num_calls, is_forced=is_forced)

    def _begun(self, body: str, request: ChatCompletionRequest[Any], *, is_thinking: bool) -> Grammar:
        """A body, perhaps after reasoning."""
        begin, end = map(self._tokenizer.control_id, ("[THINK]", "[/THINK]"))
        if begin is None or end is None:
            return self._compile(body)
        reasoning = f"{lark.TEXT} {lark.control(end)}"
        if is_thinking:
            return self._compile(f"{reasoning} ({body})")
        return self._compile(f"({lark.control(begin)} {reasoning})? ({body})" if _may_think(request) else body)

    def _compile(self, body: str) -> Grammar:
        return self._compiler_now().compile(f"start: {body}")

    def _compiler_now(self) -> GrammarCompiler:
        with self._lock:
            if self._compiler is None:
                self._compiler = GrammarCompiler(vocabulary_of(self._tokenizer), self._limits)
            return self._compiler


def vocabulary_of(tokenizer: Tokenizer) -> GrammarVocabulary:
    """Arrange a tokenizer's tokens for grammars.

    A byte token of SentencePiece whose byte has a piece of its own is left out: the model does not write it, and as the
    first token of a text <0x20> would not be what its bytes say.
    """
    control_ids = {token for token in range(tokenizer.vocab_size) if tokenizer.is_control(token)}
    tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    pieces = {tokens[token] for token in range(tokenizer.vocab_size) if not tokenizer.is_byte(token)}
    for token, its_bytes in enumerate(tokens):
        if tokenizer.is_byte(token) and its_bytes in pieces:
            tokens[token] = b""
    return GrammarVocabulary(
        tokens,
        control_ids=control_ids,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        encode=tokenizer.encode_inside,
    )


def plain_schema(schema: Schema) -> Mapping[str, Any] | bool:
    """The JSON schema of a Pydantic model; any other schema as it is."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    if not isinstance(schema, Mapping | bool):
        raise GrammarError(f"schema: expected a JSON schema or a Pydantic model, got {schema!r}")
    return schema


def _check_choice(request: ChatCompletionRequest[Any]) -> None:
    """Refuse choices without their tools, and calls that must not be beside an answer that must be JSON."""
    choice, names = request.tool_choice, [tool.function.name for tool in request.tools or ()]
    if choice in (ToolChoiceEnum.auto, ToolChoiceEnum.none):
        return
    if isinstance(choice, NamedToolChoice) and choice.function.name not in names:
        raise RequestError(f"tool_choice: there is no tool {choice.function.name!r} among {', '.join(names) or 'none'}")
    if not names:
        raise RequestError("tool_choice: a call can only be asked for with tools")
    if request.response_format.type != ResponseFormats.text:
        raise RequestError("response_format: JSON and a tool_choice that asks for a call exclude each other")


def _may_think(request: ChatCompletionRequest[Any]) -> bool:
    """Whether the conversation invites reasoning: by an effort, or by a system message that shows it."""
    if request.reasoning_effort is not None:
        return request.reasoning_effort != ReasoningEffort.none
    return any(
        isinstance(chunk, ThinkChunk)
        for message in request.messages
        if isinstance(message, SystemMessage) and isinstance(message.content, list)
        for chunk in message.content
    )
