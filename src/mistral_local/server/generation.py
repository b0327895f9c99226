"""From a body to an answer, whole or streamed; a client that hangs up stops it at any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from mistral_local.server.content_filter import refuse_harmful
from mistral_local.server.errors import CLIENT_GONE, ApiError
from mistral_local.server.rendering.chat import chat_chunks, chat_completion, chat_envelope
from mistral_local.server.schemas.generation import GenerationBody
from mistral_local.server.sse import EventStreamResponse, wait_for_disconnect
from mistral_local.server.state import ServerState
from mistral_local.tasks.async_llm import AsyncAnswers
from mistral_local.tasks.outputs import Answer
from mistral_local.tasks.prepared import PreparedRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How an answer becomes JSON.

    Attributes:
        whole: of all answers to a request.
        chunks: of their events, while they are written.
    """

    whole: Callable[[list[Answer]], dict[str, Any]]
    chunks: Callable[[AsyncAnswers], AsyncIterator[dict[str, Any]]]


async def generate(
    request: Request,
    state: ServerState,
    body: GenerationBody,
    prepare: Callable[[], Coroutine[Any, Any, list[PreparedRequest]]],
    rendering: Rendering,
) -> Response:
    """Answer a request.

    Args:
        prepare: makes of it one request per prompt.
    """

    async def start() -> AsyncAnswers:
        prepared = await prepare()
        if state.settings.filters_content:
            await refuse_harmful(state.llm, prepared)
        if body.token_limit == 0:
            prepared = [replace(one, wants_tokens=False) for one in prepared]
        choices = [choice for one in prepared for choice in one.choices(body.num_choices)]
        answers = await state.llm.start(choices)
        state.answers.add(answers)
        answers.close_after(state.settings.limits.request_seconds)
        return answers

    async def answer() -> dict[str, Any]:
        return rendering.whole(await (await start()).collect())

    if not body.stream:
        return JSONResponse(await while_connected(request, answer()))
    answers = await while_connected(request, start())
    return EventStreamResponse(rendering.chunks(answers), close=answers.close)


def chat_rendering(state: ServerState, body: GenerationBody) -> Rendering:
    """Answers in the form of chat."""
    envelope = chat_envelope(state.llm.name)
    return Rendering(
        whole=lambda answers: chat_completion(envelope, answers),
        chunks=lambda events: chat_chunks(envelope, events, body.num_choices, wants_usage_chunk=body.wants_usage_chunk),
    )


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do some work for a client; if it hangs up, the work is cancelled.

    Raises:
        ApiError: 499, if the client has hung up.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(CLIENT_GONE, "the client has hung up")
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
