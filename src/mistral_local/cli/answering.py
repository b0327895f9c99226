"""Show an answer while it streams, and stop it on Ctrl-C."""

from collections.abc import Callable

from mistral_local.cli.interrupt import StopRequest
from mistral_local.cli.turn import Turn
from mistral_local.cli.writers import Writer
from mistral_local.tasks.outputs import (
    BrokenToolCall,
    Event,
    EventStream,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDone,
)


def show_answer(start: Callable[[], EventStream], writer: Writer, stop: StopRequest) -> Turn:
    """Start an answer and show its events; between two of them a stop request closes the stream and so ends the answer.

    Args:
        start: begins the answer; called here, because Ctrl-C must find `stop` entered.
    """
    turn = Turn()
    with stop:
        events = start()
        try:
            for event in events:
                _show(event, writer, turn)
                if stop.requested and turn.finished is None:
                    break
        finally:
            events.close()
            writer.pause()
    return turn


def _show(event: Event, writer: Writer, turn: Turn) -> None:
    match event:
        case TextDelta(text):
            turn.text += text
            writer.text(text)
        case ReasoningDelta(text):
            turn.reasoning += text
            writer.reasoning(text)
        case ToolCallDone(_, call):
            turn.tool_calls.append(call)
            writer.tool_call(call)
        case BrokenToolCall(text):
            turn.text += text
            writer.text(text)
        case Finished():
            turn.finished = event
