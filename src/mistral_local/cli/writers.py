"""How an answer is shown: as it streams, or as one JSON object."""

import json
from typing import Any, Protocol

from mistral_local.cli.console import Console
from mistral_local.cli.turn import Turn
from mistral_local.tasks.outputs import ToolCall, Usage
from mistral_local.tools.dispatch import ToolResult

MAX_LINES = 20
"""Most lines of a result that are shown."""


class Writer(Protocol):
    """Shows the parts of an answer."""

    def text(self, piece: str) -> None: ...

    def reasoning(self, piece: str) -> None: ...

    def tool_call(self, call: ToolCall) -> None: ...

    def tool_result(self, result: ToolResult) -> None: ...

    def pause(self) -> None: ...

    def end(self, turn: Turn) -> None: ...


class StreamWriter:
    """Shows each part as it comes.

    A call that is not run here is the answer: dimmed on a terminal, a line of JSON elsewhere.  A call that is run, and its
    result, are shown beside the answer, on stderr.

    Args:
        runs_tools: whether calls are run here.
    """

    def __init__(self, console: Console, *, runs_tools: bool = False) -> None:
        self._console = console
        self._runs_tools = runs_tools
        self._in_line = False
        self._in_reasoning = False

    def text(self, piece: str) -> None:
        """Show more text."""
        if self._in_reasoning:
            self._end_line()
            self._in_reasoning = False
        self._console.answer(piece)
        if piece:
            self._in_line = not piece.endswith("\n")

    def reasoning(self, piece: str) -> None:
        """Show more of what the model thinks, dimmed; a person sees it, a pipe gets the answer only."""
        self._console.dimmed(piece)
        if piece and self._console.is_terminal:
            self._in_reasoning = True
            self._in_line = not piece.endswith("\n")

    def tool_call(self, call: ToolCall) -> None:
        """Show a call on its own line."""
        self._end_line()
        if self._runs_tools:
            self._console.note(call_text(call))
        elif self._console.is_terminal:
            self._console.aside(f"{call.name}({call.arguments})")
        else:
            self._console.aside(to_json(tool_call_fields(call)))

    def tool_result(self, result: ToolResult) -> None:
        """Show what has come of a call."""
        lines = result.content.splitlines() or [""]
        more = [f"... {len(lines) - MAX_LINES} more lines"] if len(lines) > MAX_LINES else []
        self._console.note("\n".join(f"| {line}" for line in [*lines[:MAX_LINES], *more]))

    def pause(self) -> None:
        """End the line: the answer has ended, or failed, or goes on after calls were run."""
        self._end_line()

    def end(self, turn: Turn) -> None:
        """Nothing is left to show."""

    def _end_line(self) -> None:
        if self._in_line:
            self._console.raw_out("\n")
        self._in_line = False


class JsonWriter:
    """Shows nothing until the end, then the whole answer as one line of JSON."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._results: list[ToolResult] = []

    def text(self, piece: str) -> None:
        """Wait."""

    def reasoning(self, piece: str) -> None:
        """Wait."""

    def tool_call(self, call: ToolCall) -> None:
        """Wait."""

    def tool_result(self, result: ToolResult) -> None:
        """Keep it for the end."""
        self._results.append(result)

    def pause(self) -> None:
        """Wait; an answer that failed is none."""

    def end(self, turn: Turn) -> None:
        """Show the answer."""
        usage = turn.finished.usage if turn.finished else None
        fields = {
            "text": turn.text,
            "reasoning": turn.reasoning,
            "tool_calls": [{"id": call.id, **tool_call_fields(call)} for call in turn.tool_calls],
            "finish_reason": turn.finish_reason,
            "usage": usage_fields(usage) if usage else None,
        }
        if self._results:
            fields["tool_results"] = [
                {**tool_call_fields(result.call), "content": result.content, "is_error": result.is_error}
                for result in self._results
            ]
        self._console.raw_out(to_json(fields) + "\n")


def stats_line(usage: Usage) -> str:
    """Say how much and how fast.

    >>> stats_line(Usage(12, 35, 0.25, 81.5))
    '12 prompt tokens, 35 new tokens, first after 0.25 s, then 81.5 tok/s'
    """
    return (
        f"{usage.prompt_tokens} prompt tokens, {usage.completion_tokens} new tokens, "
        f"first after {usage.time_to_first_token_s:.2f} s, then {usage.decode_tokens_per_s:.1f} tok/s"
    )


def call_text(call: ToolCall) -> str:
    """Write a call for a person: in a line, or with each argument on lines of its own if one has several.

    >>> print(call_text(ToolCall("", "f", '{"a": 1}')))
    f({"a": 1})
    >>> print(call_text(ToolCall("", "run", '{"code": "a = 1\\\\nprint(a)"}')))
    run
      code:
        a = 1
        print(a)
    """
    arguments = tool_call_fields(call)["arguments"]
    if not isinstance(arguments, dict) or not any(
        "\n" in value for value in arguments.values() if isinstance(value, str)
    ):
        return f"{call.name}({call.arguments})"
    lines = [call.name]
    for name, value in arguments.items():
        text = value if isinstance(value, str) else to_json(value)
        lines += [f"  {name}:", *(f"    {line}" for line in text.splitlines())]
    return "\n".join(lines)


def tool_call_fields(call: ToolCall) -> dict[str, Any]:
    """Return name and arguments; the arguments stay text if they are not JSON."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = call.arguments
    return {"name": call.name, "arguments": arguments}


def usage_fields(usage: Usage) -> dict[str, float]:
    """Return the numbers of an answer by name."""
    return {name: getattr(usage, name) for name in Usage.__slots__}


def to_json(value: Any) -> str:
    """Return one line of JSON with letters as they are."""
    return json.dumps(value, ensure_ascii=False)
