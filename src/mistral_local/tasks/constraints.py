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
from mistral_local.tokenizer.tokenizer import Tokenizer

Form = Mapping[str, Any]
"""At most one of json_schema, regex and lark."""


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

    def chat(
        self,
        request: ChatCompletionRequest[Any],
        form: Form | None = None,
        *,
        prefix: str = "",
        is_thinking: bool = False,
    ) -> Constraint:
        """The form of the answer that a conversation asks for.

        Args:
            form: of its text, as for text(), if the request's response_format says nothing.
            prefix: with what the answer begins already.
            is_thinking: whether the prompt ends inside a reasoning.

        Raises:
            RequestError: if what is asked for contradicts itself, or the tokenizer has no function calls.
            GrammarError: if a schema or grammar is refused; the reason is named.
        """
        _check_choice(request, form)
        bad_token_ids = self._call_token_ids if request.tool_choice == ToolChoiceEnum.none else frozenset[int]()
        body = self._chat_body(request, self._form(form) or self._response_format(request))
        if body is None:
            return Constraint(bad_token_ids=bad_token_ids)
        try:
            grammar = self._compile(self._after_reasoning(body, request, is_thinking=is_thinking))
        except GrammarError:
            self._blame_a_tool(request)
            raise
        if prefix:
            grammar = grammar.after(self._tokenizer.encode_text(prefix)[1:])
        return Constraint(grammar, bad_token_ids)

    def text(self, form: Form, *, starts_text: bool = True) -> Constraint:
        """The form of a text that is no conversation.

        Args:
            form: one of json_schema (a JSON schema or a Pydantic model), regex (matched as a whole) and lark (a grammar
                whose rule `start` is the text), or none of them.
            starts_text: whether the answer is a text of its own: then SentencePiece marks its start with a space that is
                not part of it.  An answer that goes on in the middle of a text has none.

        Raises:
            GrammarError: if the schema or grammar is refused; the reason is named.
        """
        body = self._form(form, starts_text=starts_text)
        return Constraint() if body is None else Constraint(self._compile(body))

    @property
    def _call_token_ids(self) -> frozenset[int]:
        ids = map(self._tokenizer.control_id, CALL_TOKENS)
        return frozenset(token for token in ids if token is not None)

    def _form(self, form: Form | None, *, starts_text: bool = True) -> lark.Body | None:
        start = lark.text_start(self._tokenizer, starts_text=starts_text)
        match dict(form or {}):
            case {"json_schema": schema}:
                return lark.Body(f"{start} {lark.json_value(plain_schema(schema), self._limits)}")
            case {"regex": ""}:
                raise GrammarError("regex: an empty pattern allows no answer")
            case {"regex": pattern}:
                return lark.Body(f"{start} {lark.regex(pattern)}")
            case {"lark": grammar}:
                return lark.Body(f"{start} @inner", inner=grammar)
        return None

    def _response_format(self, request: ChatCompletionRequest[Any]) -> lark.Body | None:
        wanted = request.response_format
        if wanted.type == ResponseFormats.text:
            return None
        schema, is_strict = ANY_OBJECT, True
        if wanted.json_schema is not None:
            schema, is_strict = wanted.json_schema.custom_schema, wanted.json_schema.strict
        start = lark.text_start(self._tokenizer)
        return lark.Body(f"{start} {lark.json_value(schema, self._limits, is_strict=is_strict)}")

    def _chat_body(self, request: ChatCompletionRequest[Any], text: lark.Body | None) -> lark.Body | None:
        """What the answer may be after reasoning: calls, a text of some form, or both."""
        if not request.tools or request.tool_choice == ToolChoiceEnum.none:
            return text
        if request.tool_choice != ToolChoiceEnum.auto:
            return lark.Body(self._calls(request, is_forced=True))
        if text is not None:
            return lark.Body(f"{text.expression} | {self._calls(request, is_forced=False)}", inner=text.inner)
        if request.parallel_tool_calls and not any(tool.function.strict for tool in request.tools):
            return None
        return lark.Body(f"{lark.TEXT} ({self._calls(request, is_forced=False)})?")

    def _calls(self, request: ChatCompletionRequest[Any], *, is_forced: bool) -> str:
        choice, calls = request.tool_choice, CallGrammar(self._tokenizer, self._limits)
        name = choice.function.name if isinstance(choice, NamedToolChoice) else None
        tools = [tool for tool in request.tools or () if name in (None, tool.function.name)]
        num_calls = MAX_CALLS if request.parallel_tool_calls else 1
        return calls.calls(tools, num_calls=num_calls, is_forced=is_forced)

    def _blame_a_tool(self, request: ChatCompletionRequest[Any]) -> None:
        """Name the tool whose schema is refused, if it is one."""
        if request.tool_choice == ToolChoiceEnum.none:
            return
        is_forced = request.tool_choice != ToolChoiceEnum.auto
        for tool in request.tools or ():
            arguments = CallGrammar(self._tokenizer, self._limits).arguments(tool, is_forced=is_forced)
            try:
                self._compile(lark.Body(arguments))
            except GrammarError as error:
                raise GrammarError(f"tool {tool.function.name}: {error}") from error

    def _after_reasoning(self, body: lark.Body, request: ChatCompletionRequest[Any], *, is_thinking: bool) -> lark.Body:
        begin, end = map(self._tokenizer.control_id, ("[THINK]", "[/THINK]"))
        if begin is None or end is None or not (is_thinking or _may_think(request)):
            return body
        rest = f"{lark.TEXT} {lark.control(end)}"
        reasoning = rest if is_thinking else f"({lark.control(begin)} {rest})?"
        return lark.Body(f"{reasoning} ({body.expression})", inner=body.inner)

    def _compile(self, body: lark.Body) -> Grammar:
        return self._compiler_now().compile(body.grammar())

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


def plain_schema(schema: Any) -> Any:
    """The JSON schema of a Pydantic model; any other schema as it is.

    Models that do not say what becomes of further members get none, so that an answer must end.
    """
    is_model = isinstance(schema, type) and issubclass(schema, BaseModel)
    return _closed(schema.model_json_schema()) if is_model else schema


def _closed(schema: Any) -> Any:
    """A schema whose objects with properties have no others, unless it says so itself."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    is_object = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    return {"additionalProperties": False, **closed} if is_object else closed


def plain_response_format(response_format: Any) -> Any:
    """The response format of a Pydantic model; any other as it is, without what is None beside its schema."""
    schema = plain_schema(response_format)
    if schema is response_format:
        return _without_none(response_format)
    return {"type": "json_schema", "json_schema": {"name": response_format.__name__, "schema": schema, "strict": True}}


def _without_none(response_format: Any) -> Any:
    """A response format whose members that are None are as if not given; clients send them so."""
    if not isinstance(response_format, Mapping):
        return response_format
    given = {name: value for name, value in response_format.items() if value is not None}
    if isinstance(given.get("json_schema"), Mapping):
        given["json_schema"] = {name: value for name, value in given["json_schema"].items() if value is not None}
    return given


def _check_choice(request: ChatCompletionRequest[Any], form: Form | None) -> None:
    """Refuse two forms for one text, choices without their tools, and calls where the text must have a form."""
    has_format = request.response_format.type != ResponseFormats.text
    if form and has_format:
        raise RequestError(f"response_format and {next(iter(form))}: an answer can have one form only")
    choice, names = request.tool_choice, [tool.function.name for tool in request.tools or ()]
    if choice in (ToolChoiceEnum.auto, ToolChoiceEnum.none):
        return
    if not names:
        raise RequestError("tool_choice: a call can only be asked for with tools")
    if isinstance(choice, NamedToolChoice) and choice.function.name not in names:
        raise RequestError(f"tool_choice: there is no tool {choice.function.name!r} among {', '.join(names)}")
    if form or has_format:
        raise RequestError("tool_choice: an answer that must be a call cannot have another form as well")


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
