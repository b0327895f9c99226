"""How an answer is shown: as it streams, or as one JSON object."""

import json
from typing import Any, Protocol

from mistral_local.cli.console import Console
from mistral_local.cli.turn import Turn
from mistral_local.tasks.outputs import ToolCall, Usage


class Writer(Protocol):
    """Shows the parts of an answer."""

    def text(self, piece: str) -> None: ...

    def reasoning(self, piece: str) -> None: ...

    def tool_call(self, call: ToolCall) -> None: ...

    def end(self, turn: Turn) -> None: ...

    def break_off(self) -> None: ...


class StreamWriter:
    """Shows each part as it comes; a tool call is dimmed on a terminal and a line of JSON elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
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
        self._console.aside(
            f"{call.name}({call.arguments})" if self._console.is_terminal else to_json(tool_call_fields(call))
        )

    def end(self, turn: Turn) -> None:
        """End the last line."""
        self._end_line()

    def break_off(self) -> None:
        """End the last line of an answer that failed."""
        self._end_line()

    def _end_line(self) -> None:
        if self._in_line:
            self._console.raw_out("\n")
        self._in_line = False


class JsonWriter:
    """Shows nothing until the end, then the whole answer as one line of JSON."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def text(self, piece: str) -> None:
        """Wait."""

    def reasoning(self, piece: str) -> None:
        """Wait."""

    def tool_call(self, call: ToolCall) -> None:
        """Wait."""

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
        self._console.raw_out(to_json(fields) + "\n")

    def break_off(self) -> None:
        """Show nothing: an answer that failed is no answer."""


def stats_line(usage: Usage) -> str:
    """Say how much and how fast.

    >>> stats_line(Usage(12, 35, 0.25, 81.5))
    '12 prompt tokens, 35 new tokens, first after 0.25 s, then 81.5 tok/s'
    """
    return (
        f"{usage.prompt_tokens} prompt tokens, {usage.completion_tokens} new tokens, "
        f"first after {usage.time_to_first_token_s:.2f} s, then {usage.decode_tokens_per_s:.1f} tok/s"
    )


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
