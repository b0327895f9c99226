"""From what a caller asks to requests that are ready for an engine; the same for every caller, on any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from mistral_local.errors import PromptTooLongError
from mistral_local.tasks.answer_parser import ends_in_reasoning
from mistral_local.tasks.chat import chat_request, encode_chat
from mistral_local.tasks.constraints import Constraint, Constraints, plain_response_format
from mistral_local.tasks.messages import Message
from mistral_local.tasks.options import GenerationOptions, read_options
from mistral_local.tasks.prepared import PreparedRequest
from mistral_local.tokenizer.tokenizer import Tokenizer

Tools = Iterable[Mapping[str, Any] | BaseModel]
ToolChoice = str | Mapping[str, Any] | BaseModel


class RequestBuilder:
    """Encodes requests for one tokenizer and context, and says how their answers are sampled and read.

    Encoding and compiling a grammar may take seconds: an event loop asks from a thread.

    Args:
        context_length: most tokens of one request, prompt and answer together.
        note: called with a line for each thing that was done to a request and that its sender may not expect.

    Attributes:
        tokenizer: with which requests are encoded.
    """

    def __init__(self, tokenizer: Tokenizer, context_length: int, *, note: Callable[[str], None] | None = None) -> None:
        self.tokenizer = tokenizer
        self._note = note or (lambda _: None)
        self._constraints = Constraints(tokenizer)
        self.context_length = context_length

    def chat(
        self,
        messages: Iterable[Message],
        *,
        tools: Tools | None = None,
        tool_choice: ToolChoice | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: Mapping[str, Any] | BaseModel | type[BaseModel] | None = None,
        reasoning_effort: str | None = None,
        safe_prompt: bool = False,
        row: int = 0,
        **options: Any,
    ) -> PreparedRequest:
        """Encode a conversation.

        Args:
            tool_choice: "auto", "none", "any", "required", or {"type": "function", "function": {"name": ...}}.
            parallel_tool_calls: whether one answer may hold several calls.
            response_format: of the answer's text: {"type": "json_object"}, {"type": "json_schema", "json_schema": {...}},
                or a Pydantic model.
            reasoning_effort: for tokenizers from v15 on.
            safe_prompt: put the API's safety prompt before the conversation.
            row: number of the answer, if several are drawn from one seed.
            options: fields of GenerationOptions.

        Raises:
            RequestError: if the conversation or an option cannot be served.
        """
        settings = read_options(options)
        chat = chat_request(
            messages,
            tools,
            version=self.tokenizer.version,
            reasons=self.tokenizer.can_reason,
            safe_prompt=safe_prompt,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            response_format=plain_response_format(response_format),
            reasoning_effort=reasoning_effort,
        )
        tokens = encode_chat(self.tokenizer, chat)
        for note in chat.notes:
            self._note(note)
        constraint = self._constraints.chat(
            chat.request,
            settings.form,
            prefix=chat.prefix,
            is_thinking=ends_in_reasoning(self.tokenizer, tokens),
        )
        return self._prepared(
            tokens,
            settings,
            row=row,
            constraint=constraint,
            call_ids=chat.call_ids,
            prefix=chat.prefix,
            continues_text=bool(chat.prefix),
            notes=chat.notes,
        )

    def fim(self, prompt: str, suffix: str = "", *, row: int = 0, **options: Any) -> PreparedRequest:
        """Encode a gap; errors as in chat()."""
        settings = read_options(options)
        tokens = self.tokenizer.encode_fim(prompt, suffix)
        return self._prepared_text(tokens, settings, row=row, continues_text=True)

    def text(self, prompt: str | list[int], *, row: int = 0, **options: Any) -> PreparedRequest:
        """Encode plain text, without a chat template, or take token ids as they are; errors as in chat()."""
        settings = read_options(options)
        return self._prepared_text(self.plain_tokens(prompt), settings, row=row, continues_text=bool(prompt))

    def plain_tokens(self, text: str | list[int]) -> list[int]:
        """The token ids of a plain text; token ids stay as they are.

        Raises:
            RequestError: if it cannot be encoded.
            PromptTooLongError: if it leaves no room in the context.
        """
        tokens = self.tokenizer.encode_text(text) if isinstance(text, str) else text
        self._check_length(tokens)
        return tokens

    def count_tokens(self, messages: Iterable[Message], *, tools: Tools | None = None) -> int:
        """Prompt tokens of a conversation as it would be sent."""
        tokenizer = self.tokenizer
        chat = chat_request(messages, tools, version=tokenizer.version, reasons=tokenizer.can_reason)
        return len(encode_chat(tokenizer, chat))

    def _prepared_text(
        self, tokens: list[int], options: GenerationOptions, *, row: int, continues_text: bool
    ) -> PreparedRequest:
        constraint = self._constraints.text(options.form, starts_text=not continues_text)
        return self._prepared(tokens, options, row=row, constraint=constraint, continues_text=continues_text)

    def _prepared(
        self, tokens: list[int], options: GenerationOptions, *, row: int, constraint: Constraint, **how: Any
    ) -> PreparedRequest:
        self._check_length(tokens)
        params = options.sampling_params(
            room=self.context_length - len(tokens),
            eos_id=self.tokenizer.eos_id,
            row=row,
            bad_token_ids=constraint.bad_token_ids,
            grammar=constraint.grammar,
        )
        stop = tuple(options.stop)
        return PreparedRequest(tokenizer=self.tokenizer, tokens=tokens, params=params, stop=stop, **how)

    def _check_length(self, tokens: list[int]) -> None:
        if len(tokens) >= self.context_length:
            raise PromptTooLongError(
                f"the prompt has {len(tokens)} tokens; a context of {self.context_length} leaves no room for an answer"
            )
