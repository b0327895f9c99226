"""What has come of an answer."""

from dataclasses import dataclass, field
from typing import Any

from mistral_local.tasks.outputs import Finished, FinishReason, ToolCall, answer_message


@dataclass(slots=True)
class Turn:
    """What has come of an answer.

    Attributes:
        finished: its last event; None if it was stopped here.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finished: Finished | None = None

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended; `aborted` if it was stopped here."""
        return self.finished.finish_reason if self.finished else "aborted"

    def message(self) -> dict[str, Any]:
        """The answer as a message of the Mistral API."""
        return answer_message(self.text, self.reasoning, self.tool_calls)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come."""
        return not self.text and not self.tool_calls and not self.reasoning
