"""A dialogue with a model: what it remembers, how it asks, and what it says about each answer."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mistral_local.cli.answering import show_answer
from mistral_local.cli.console import Console
from mistral_local.cli.conversation import Conversation, Message, Tool
from mistral_local.cli.interrupt import InterruptClock, StopRequest
from mistral_local.cli.turn import Turn
from mistral_local.cli.writers import StreamWriter, Writer, stats_line
from mistral_local.tasks.options import GenerationOptions
from mistral_local.tasks.outputs import EventStream, Usage

if TYPE_CHECKING:
    from mistral_local.tasks.llm import LLM

WARN_ABOVE = 0.8


class Session:
    """One run of mistral-chat.

    Attributes:
        conversation: what has been said; None if the model only completes text.
        options: of the next answers.
        shows_stats: whether each answer is followed by its numbers.
        last_usage: of the last answer that ended by itself.
        clock: knows when Ctrl-C was last pressed.
    """

    def __init__(
        self,
        model: "LLM",
        console: Console,
        options: GenerationOptions,
        *,
        conversation: Conversation | None,
        tools: Sequence[Tool] | None = None,
        shows_stats: bool = False,
    ) -> None:
        self.model = model
        self.console = console
        self.options = options
        self.conversation = conversation
        self.shows_stats = shows_stats
        self.last_usage: Usage | None = None
        self.clock = InterruptClock()
        self._tools = tools

    def ask(self, text: str, writer: Writer | None = None) -> Turn:
        """Answer a message, or complete a text; an error leaves the conversation as it was."""
        if self.conversation is None:
            return self._answer(lambda: self.model.complete(text, stream=True, **options_by_name(self.options)), writer)
        sent = self.conversation.asking(text)
        if any(message["role"] == "tool" for message in sent[len(self.conversation.messages) :]):
            self.console.note("(tools are not executed here; the model is told so)")
        return self._converse(sent, writer, if_empty="your message was taken back")

    def retry(self) -> Turn:
        """Answer the last user message again; the former answer is replaced when the new one exists."""
        assert self.conversation is not None, "only a conversation can be retried"
        return self._converse(self.conversation.asking_again(), None, if_empty="the former answer stays")

    def count_tokens(self) -> int:
        """Return the tokens that the conversation takes before the next message."""
        if self.conversation is None or not self.conversation.messages:
            return 0
        return self.model.count_tokens(self.conversation.asking(""), tools=self._tools)

    def _converse(self, sent: Sequence[Message], writer: Writer | None, *, if_empty: str) -> Turn:
        assert self.conversation is not None, "there is a conversation to add to"
        turn = self._answer(
            lambda: self.model.chat(sent, tools=self._tools, stream=True, **options_by_name(self.options)),
            writer,
            if_empty,
        )
        if not turn.is_empty:
            self.conversation.keep(sent, turn.text, turn.tool_calls)
        return turn

    def _answer(self, start: Callable[[], EventStream], writer: Writer | None, if_empty: str = "") -> Turn:
        turn = show_answer(start, writer or StreamWriter(self.console), StopRequest(self.clock))
        self.last_usage = turn.finished.usage if turn.finished else None
        self._say_how_it_ended(turn, f"; {if_empty}" if if_empty and turn.is_empty else "")
        if self.last_usage is not None:
            self._say_what_it_took(self.last_usage)
        return turn

    def _say_how_it_ended(self, turn: Turn, consequence: str) -> None:
        if turn.finish_reason == "aborted":
            self.console.note(f"(stopped{consequence})")
        elif turn.is_empty:
            self.console.note(f"(the model ended its answer at once{consequence})")
        elif turn.finish_reason == "length" and self.last_usage is not None:
            most = self.options.max_tokens
            if most is not None and self.last_usage.completion_tokens >= most:
                self.console.note(f"(cut at max_tokens={most})")
            else:
                self.console.note(f"(cut: the context of {self.model.context_length} tokens is full)")

    def _say_what_it_took(self, usage: Usage) -> None:
        if self.shows_stats:
            self.console.note(stats_line(usage))
        num_tokens = usage.prompt_tokens + usage.completion_tokens
        if self.conversation is not None and num_tokens > WARN_ABOVE * self.model.context_length:
            self.console.note(f"(the context is {self.meter(num_tokens)}; /undo or /reset makes room)")

    def meter(self, num_tokens: int) -> str:
        """Return how full the context is, as in `83 % full: 3400 of 4096 tokens`."""
        percent = 100 * num_tokens // self.model.context_length
        return f"{percent} % full: {num_tokens} of {self.model.context_length} tokens"


def options_by_name(options: GenerationOptions) -> dict[str, Any]:
    """Return the options as keywords."""
    return {field.name: getattr(options, field.name) for field in fields(options)}
