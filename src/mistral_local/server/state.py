"""What the routes of one app share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated
from weakref import WeakSet

from fastapi import Depends, Request

from mistral_local.errors import EngineBusyError
from mistral_local.server.metrics import Metrics
from mistral_local.server.settings import ServerSettings
from mistral_local.tasks.async_llm import AsyncAnswers, AsyncLLM


@dataclass(slots=True)
class ServerState:
    """A running server.

    Attributes:
        is_draining: whether it is about to stop.
        has_failed: whether it stops because a rank is lost; whoever waits is told first, whatever signals come.
        num_taken: requests that are read, prepared or answered whole; those that stream count in the engine only.
        answers: those that are being written.
        started_at: when it was started, in seconds since 1970.
    """

    llm: AsyncLLM
    settings: ServerSettings
    metrics: Metrics = field(default_factory=Metrics)
    is_draining: bool = False
    has_failed: bool = False
    num_taken: int = 0
    answers: WeakSet[AsyncAnswers] = field(default_factory=WeakSet)
    started_at: int = field(default_factory=lambda: int(time.time()))

    def cut_answers(self) -> None:
        """End all answers; their clients are told."""
        for answers in list(self.answers):
            answers.close()

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Work on a request, if there are not too many already.

        Raises:
            EngineBusyError: if so.
        """
        if self.num_taken >= self.llm.capacity:
            raise EngineBusyError(f"{self.num_taken} requests are worked on already; try again later")
        self.num_taken += 1
        try:
            yield
        finally:
            self.num_taken -= 1


async def _state_of(request: Request) -> ServerState:  # FastAPI calls what is not async on a thread
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(_state_of)]
