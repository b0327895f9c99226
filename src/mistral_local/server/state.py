"""What the routes of one app share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from mistral_local.server.settings import ServerSettings
from mistral_local.tasks.async_llm import AsyncLLM


@dataclass(slots=True)
class ServerState:
    """A running server.

    Attributes:
        is_draining: whether it is about to stop.
        started_at: when it was started, in seconds since 1970.
    """

    llm: AsyncLLM
    settings: ServerSettings
    is_draining: bool = False
    started_at: int = field(default_factory=lambda: int(time.time()))


def _state_of(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(_state_of)]
