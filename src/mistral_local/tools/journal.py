"""The record of a conversation with tools: what was said, called and returned, to be saved and replayed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mistral_local.errors import ToolError
from mistral_local.tools.call import ToolCall
from mistral_local.tools.dispatch import ToolResult

FORMAT = 1


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """An answer of the model as the journal has it; serves as the reply of a replayed run."""

    recorded: Mapping[str, Any]
    tool_calls: Sequence[ToolCall]
    finish_reason: str

    @property
    def text(self) -> str:
        """Its text, without reasoning."""
        content = self.recorded.get("content") or ""
        if isinstance(content, str):
            return content
        return "".join(chunk["text"] for chunk in content if chunk.get("type") == "text")

    def message(self) -> dict[str, Any]:
        """The message as it was."""
        return dict(self.recorded)


@dataclass(slots=True)
class Journal:
    """A run of a ToolLoop.

    Attributes:
        messages: with which it began.
        tools: definitions of the tools.
        options: of the model's answers, the seed among them.
        answers: of the model, in order.
        results: of the calls of each answer that had some.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    answers: list[RecordedAnswer] = field(default_factory=list)
    results: list[list[ToolResult]] = field(default_factory=list)

    def add_answer(self, message: dict[str, Any], calls: list[ToolCall], finish_reason: str) -> None:
        """Note an answer."""
        self.answers.append(RecordedAnswer(message, calls, finish_reason))

    def add_results(self, results: list[ToolResult]) -> None:
        """Note what has come of the calls of the last answer."""
        self.results.append(list(results))

    def save(self, path: Path) -> None:
        """Write the journal as JSON."""
        content = {
            "format": FORMAT,
            "messages": self.messages,
            "tools": self.tools,
            "options": self.options,
            "answers": [
                {
                    "message": answer.message(),
                    "tool_calls": [asdict(call) for call in answer.tool_calls],
                    "finish_reason": answer.finish_reason,
                }
                for answer in self.answers
            ],
            "results": [[asdict(result) for result in results] for results in self.results],
        }
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read a journal.

        Raises:
            ToolError: if the file holds none.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}, expected {FORMAT}")
            answers = [
                RecordedAnswer(
                    item["message"], [ToolCall(**call) for call in item["tool_calls"]], item["finish_reason"]
                )
                for item in content["answers"]
            ]
            results = [
                [ToolResult(**{**result, "call": ToolCall(**result["call"])}) for result in results]
                for results in content["results"]
            ]
            return cls(content["messages"], content["tools"], content["options"], answers, results)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ToolError(f"{path}: no journal of a run with tools: {error}") from error

    def replay(self) -> Replay:
        """What takes the place of the model, of the tools, or of both, to go through the run once more."""
        return Replay(self)


class Replay:
    """The answers and results of a journal, one after the other.

    replay = journal.replay()
    ToolLoop(tools=..., dispatch=replay.dispatch).run(replay.complete, journal.messages)
    """

    def __init__(self, journal: Journal) -> None:
        self._answers, self._results = iter(journal.answers), iter(journal.results)
        self._expected = list(journal.messages)
        self._recorded = {
            id(answer): results for answer, results in zip(journal.answers, journal.results, strict=False)
        }

    def complete(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> RecordedAnswer:
        """Give the next answer.

        Raises:
            ToolError: if the messages are not those that were answered then, or there is no further answer.
        """
        if messages != self._expected:
            raise ToolError("the replayed run has left the journal: other messages than were answered then")
        answer = next(self._answers, None)
        if answer is None:
            raise ToolError("the replayed run has left the journal: it asks for one more answer")
        self._expected = [*messages, answer.message()]
        self._expected += [result.as_message() for result in self._recorded.get(id(answer), [])]
        return answer

    def dispatch(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Give the results of the next calls, whatever their ids are now.

        Raises:
            ToolError: if other functions are called, or with other arguments, than then.
        """
        results = [result for result in next(self._results, []) if any(_same(result.call, call) for call in calls)]
        if len(results) != len(calls) or not all(
            _same(result.call, call) for result, call in zip(results, calls, strict=True)
        ):
            raise ToolError("the replayed run has left the journal: other calls than were made then")
        return [
            ToolResult(call, result.content, result.is_error, result.duration_s)
            for result, call in zip(results, calls, strict=True)
        ]


def _same(one: ToolCall, other: ToolCall) -> bool:
    return (one.name, one.arguments) == (other.name, other.arguments)
