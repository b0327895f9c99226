"""A dialogue with a model: what it remembers, how it asks, and what it says about each answer."""

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mistral_local.cli.answering import show_answer
from mistral_local.cli.approval import Approval
from mistral_local.cli.console import Console
from mistral_local.cli.conversation import Conversation, Message, Tool
from mistral_local.cli.interrupt import InterruptClock, StopRequest
from mistral_local.cli.interrupt_key import InterruptKey
from mistral_local.cli.toolbox import Toolbox
from mistral_local.cli.turn import Turn
from mistral_local.cli.writers import StreamWriter, Writer, stats_line
from mistral_local.tasks.options import GenerationOptions
from mistral_local.tasks.outputs import EventStream, Usage
from mistral_local.tools.loop import ToolLoop, max_chars_for

if TYPE_CHECKING:
    from mistral_local.tasks.llm import LLM
    from mistral_local.tools.registry import ToolRegistry

WARN_ABOVE = 0.8


class Session:
    """One run of mistral-chat.

    Attributes:
        conversation: what has been said; None if the model only completes text.
        options: of the next answers.
        shows_stats: whether each answer is followed by its numbers.
        last_usage: of the last answer that ended by itself.
        toolbox: functions that the model may call.
        clock: knows when Ctrl-C was last pressed.
        keys: reads Ctrl-C where it is a key.
    """

    def __init__(
        self,
        model: "LLM",
        console: Console,
        options: GenerationOptions,
        *,
        conversation: Conversation | None,
        toolbox: Toolbox | None = None,
        approve: Approval | None = None,
        shows_stats: bool = False,
        keys: InterruptKey | None = None,
    ) -> None:
        self.model = model
        self.console = console
        self.options = options
        self.conversation = conversation
        self.shows_stats = shows_stats
        self.last_usage: Usage | None = None
        self.clock = InterruptClock()
        self.keys = keys or InterruptKey(is_needed=False)
        self.toolbox = toolbox
        self._approve = approve

    def ask(self, text: str, writer: Writer | None = None) -> Turn:
        """Answer a message, or complete a text; an error leaves the conversation as it was."""
        if self.conversation is None:
            return self._complete(
                lambda: self.model.complete(text, stream=True, **options_by_name(self.options)), writer
            )
        sent = self.conversation.asking(text)
        if any(message["role"] == "tool" for message in sent[len(self.conversation.messages) :]):
            self.console.note("(tools are not executed here; the model is told so)")
        return self._converse(sent, writer, if_empty="your message was taken back")

    def retry(self) -> Turn:
        """Answer the last user message again; the former answer is replaced when the new one exists."""
        assert self.conversation is not None, "only a conversation can be retried"
        return self._converse(self.conversation.asking_again(), None, if_empty="the former answer stays")

    def fill(self, prefix: str, suffix: str) -> Turn:
        """Write what belongs between two texts; the conversation does not know of it."""
        return self._complete(
            lambda: self.model.fim(prefix, suffix, stream=True, **options_by_name(self.options)), None
        )

    def count_tokens(self) -> int:
        """Return the tokens that the conversation takes before the next message."""
        if self.conversation is None or not self.conversation.messages:
            return 0
        return self.model.count_tokens(self.conversation.asking(""), tools=self._definitions)

    @property
    def _definitions(self) -> list[Tool] | None:
        return self.toolbox.definitions if self.toolbox is not None else None

    @property
    def _registry(self) -> "ToolRegistry | None":
        return self.toolbox.registry if self.toolbox is not None else None

    def _complete(self, start: Callable[[], EventStream], writer: Writer | None) -> Turn:
        writer = writer or StreamWriter(self.console)
        turn = self._answer(start, writer)
        writer.end(turn)
        return turn

    def _converse(self, sent: list[Message], writer: Writer | None, *, if_empty: str) -> Turn:
        assert self.conversation is not None, "there is a conversation to add to"
        writer = writer or StreamWriter(self.console, runs_tools=self._registry is not None)

        def ask_model(messages: list[Message]) -> Turn:
            options = options_by_name(self.options)
            consequence = if_empty if len(messages) == len(sent) else ""
            return self._answer(
                lambda: self.model.chat(messages, tools=self._definitions, stream=True, **options), writer, consequence
            )

        if self._registry is None:
            turn = ask_model(sent)
            if not turn.is_empty:
                self.conversation.keep(sent, turn.text, turn.tool_calls, turn.reasoning)
        else:
            turn = self._run_tools(self._registry, ask_model, sent, writer)
        writer.end(turn)
        return turn

    def _run_tools(
        self, registry: "ToolRegistry", ask_model: Callable[[list[Message]], Turn], sent: list[Message], writer: Writer
    ) -> Turn:
        """Let the model call tools until it answers in words; the conversation takes all of it once it has ended."""
        assert self.conversation is not None, "tools belong to a conversation"
        turns: list[Turn] = []

        def complete(messages: list[Message], _: list[Tool]) -> Turn:
            turns.append(ask_model(messages))
            return turns[-1]

        loop = ToolLoop(
            tools=registry,
            approve=self._approve,
            on_result=writer.tool_result,
            max_chars=max_chars_for(self.model.context_length),
        )
        run = loop.run(complete, sent)
        if run.finish_reason == "max_rounds":
            self.console.note(f"(stopped: the model has called tools {len(turns)} times in a row)")
        kept = run.messages[:-1] if turns[-1].is_empty else run.messages
        if len(kept) > len(sent):
            self.conversation.messages = kept
        return turns[-1]

    def _answer(self, start: Callable[[], EventStream], writer: Writer, if_empty: str = "") -> Turn:
        turn = show_answer(start, writer, StopRequest(self.clock, leaves_in_order=self.keys.is_active))
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
