"""Ask a model, run the functions that it calls, and ask again, until it answers in words."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mistral_local.errors import ToolError
from mistral_local.tools.call import ToolCall
from mistral_local.tools.dispatch import Dispatcher, ToolResult
from mistral_local.tools.journal import Journal
from mistral_local.tools.registry import ToolRegistry
from mistral_local.tools.tool import Tool

MAX_ROUNDS = 8
TIMEOUT_S = 60.0
MAX_CHARS = 8000

Message = dict[str, Any]


class Reply(Protocol):
    """An answer of the model, as tasks.outputs.Answer is one."""

    @property
    def text(self) -> str: ...

    @property
    def tool_calls(self) -> Sequence[ToolCall]: ...

    @property
    def finish_reason(self) -> str: ...

    def message(self) -> Message: ...


Complete = Callable[[list[Message], list[Message]], Reply]
"""Answers messages, given the definitions of the tools."""
Approve = Callable[[ToolCall], str | None]
"""Sees a call before it runs; a text refuses it, and is what the model is told."""


@dataclass(frozen=True, slots=True)
class ToolRun:
    """What has come of a conversation with tools.

    Attributes:
        text: the last answer.
        finish_reason: of the last answer, or "max_rounds" if calls were still open then; those have not run.
        messages: the whole conversation, to go on with.
        results: of all calls, in order.
        journal: the run, to be saved and replayed.
    """

    text: str
    finish_reason: str
    messages: list[Message]
    results: list[ToolResult]
    journal: Journal


@dataclass(frozen=True, slots=True)
class _Ask:
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class _Approve:
    call: ToolCall


@dataclass(frozen=True, slots=True)
class _Dispatch:
    calls: list[ToolCall]


_Step = _Ask | _Approve | _Dispatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLoop:
    """How a model and its tools talk to each other.

    Only calls of an answer that ended with them are run: one that a limit cut may lack more than it shows.

    Attributes:
        max_rounds: most answers of the model.
        approve: sees every call before any of its answer runs; one that cannot be made at all is not shown to it.
        on_result: sees every result before the model is asked again.
        timeout_s: most seconds of a call whose tool does not say otherwise.
        max_chars: most characters of a result.
        dispatch: takes the place of running calls, as a journal's replay does.
        options: of the model's answers, for the journal.

    Raises:
        ToolError: if a limit is not positive.
    """

    tools: ToolRegistry
    max_rounds: int = MAX_ROUNDS
    approve: Callable[[ToolCall], Any] | None = None
    on_result: Callable[[ToolResult], None] | None = None
    timeout_s: float = TIMEOUT_S
    max_chars: int = MAX_CHARS
    dispatch: Callable[[Sequence[ToolCall]], list[ToolResult]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_rounds", "timeout_s", "max_chars"):
            if getattr(self, name) <= 0:
                raise ToolError(f"{name}: expected more than 0, got {getattr(self, name)}")

    def run(self, complete: Complete, messages: Iterable[Mapping[str, Any]]) -> ToolRun:
        """Converse until the model answers in words.

        Raises:
            What `complete` and the hooks raise; what a tool raises goes to the model.
        """
        steps = self._steps(messages)
        answer: Any = None
        try:
            while True:
                match steps.send(answer):
                    case _Ask(sent):
                        answer = complete(sent, self.tools.definitions())
                    case _Approve(call):
                        answer = self.approve(call) if self.approve is not None else None
                    case _Dispatch(calls):
                        answer = (self.dispatch or self._dispatcher().run)(calls)
        except StopIteration as end:
            run: ToolRun = end.value
            return run

    async def run_async(
        self,
        complete: Callable[[list[Message], list[Message]], Awaitable[Reply]],
        messages: Iterable[Mapping[str, Any]],
    ) -> ToolRun:
        """As run(), on an event loop; `approve` may be a coroutine function."""
        steps = self._steps(messages)
        answer: Any = None
        try:
            while True:
                match steps.send(answer):
                    case _Ask(sent):
                        answer = await complete(sent, self.tools.definitions())
                    case _Approve(call):
                        answer = self.approve(call) if self.approve is not None else None
                        answer = await answer if inspect.isawaitable(answer) else answer
                    case _Dispatch(calls):
                        answer = self.dispatch(calls) if self.dispatch else await self._dispatcher().run_async(calls)
        except StopIteration as end:
            run: ToolRun = end.value
            return run

    def _impossible(self, call: ToolCall) -> str | None:
        """Why a call cannot be made at all, so that nobody needs to be asked."""
        if self.dispatch is not None:
            return None
        try:
            self.tools.find(call.name).arguments(call.arguments)
        except ToolError as error:
            return f"error: {error}"
        return None

    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(self.tools, timeout_s=self.timeout_s, max_chars=self.max_chars)

    def _steps(self, messages: Iterable[Mapping[str, Any]]) -> Generator[_Step, Any, ToolRun]:
        """The conversation itself: yields what is to be done, is sent what came of it, returns the run."""
        conversation = [dict(message) for message in messages]
        journal = Journal(list(conversation), self.tools.definitions(), dict(self.options))
        results: list[ToolResult] = []
        for round_number in range(1, self.max_rounds + 1):
            reply: Reply = yield _Ask(list(conversation))
            journal.add_answer(reply.message(), list(reply.tool_calls), reply.finish_reason)
            conversation.append(reply.message())
            reason = reply.finish_reason
            if reason != "tool_calls" or not reply.tool_calls:
                return ToolRun(reply.text, reason, conversation, results, journal)
            if round_number == self.max_rounds:
                return ToolRun(reply.text, "max_rounds", conversation, results, journal)
            new = yield from self._run_calls(list(reply.tool_calls))
            journal.add_results(new)
            results += new
            conversation += [result.as_message() for result in new]
        raise AssertionError("max_rounds is at least 1")

    def _run_calls(self, calls: list[ToolCall]) -> Generator[_Step, Any, list[ToolResult]]:
        refusals: dict[str, str] = {}
        for call in calls:
            refusal = self._impossible(call)
            if refusal is None:
                refusal = yield _Approve(call)
            if refusal is not None:
                refusals[call.id] = str(refusal)
        ran: list[ToolResult] = yield _Dispatch([call for call in calls if call.id not in refusals])
        by_id = {result.call.id: result for result in ran}
        results = [
            ToolResult(call, refusals[call.id], True) if call.id in refusals else by_id[call.id] for call in calls
        ]
        for result in results:
            if self.on_result is not None:
                self.on_result(result)
        return results


def max_chars_for(context_length: int) -> int:
    """Most characters of a result for a model: at one token a character, half of what it can see."""
    return max(1, min(MAX_CHARS, context_length // 2))


def chat_with_tools(
    complete: Complete,
    messages: Iterable[Mapping[str, Any]],
    tools: Iterable[Tool | Callable[..., Any]],
    max_rounds: int = MAX_ROUNDS,
    **how: Any,
) -> ToolRun:
    """Converse until the model answers in words; arguments and errors as ToolLoop has them."""
    return ToolLoop(tools=ToolRegistry(tools), max_rounds=max_rounds, **how).run(complete, messages)
