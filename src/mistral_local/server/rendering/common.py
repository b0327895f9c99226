"""What all answers of the API have in common."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mistral_local.tasks.outputs import FinishReason, Usage

FINISH_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "aborted": "error",
}
"""Why an answer ended, in the words of the API."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around an answer, and on each chunk of it.

    Attributes:
        model: its name.
        kind: the `object` of a whole answer.
        chunk_kind: the `object` of a chunk.
    """

    model: str
    kind: str
    chunk_kind: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        """An answer."""
        return {**self._head(self.kind), "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> dict[str, Any]:
        """A piece of an answer; the last one has the usage."""
        chunk = {**self._head(self.chunk_kind), "choices": choices}
        return chunk if usage is None else {**chunk, "usage": usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage_of(usages: Iterable[Usage], *, num_choices: int = 1) -> dict[str, int]:
    """The tokens of a request.

    Args:
        usages: of its answers, in order.
        num_choices: so many answers in a row share a prompt, which is counted once.
    """
    usages = list(usages)
    prompt = sum(usage.prompt_tokens for usage in usages[::num_choices])
    completion = sum(usage.completion_tokens for usage in usages)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
