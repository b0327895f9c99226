"""POST /v1/fim/completions and /v1/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from mistral_local.server.body import JsonRoute
from mistral_local.server.generation import Rendering, chat_rendering, generate
from mistral_local.server.openapi import answers
from mistral_local.server.rendering.completion import completion_chunks, completion_envelope, text_completion
from mistral_local.server.schemas.answers import ChatAnswer, TextAnswer
from mistral_local.server.schemas.completion import CompletionBody, FimBody
from mistral_local.server.state import State
from mistral_local.tasks.prepared import PreparedRequest

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/fim/completions", responses=answers(ChatAnswer, streams=True))
async def fill_in_the_middle(body: FimBody, request: Request, state: State) -> Response:
    """Write what belongs between `prompt` and `suffix`, for Mistral's clients; answers have the form of chat."""
    body.check(state.settings.limits)

    async def prepare() -> list[PreparedRequest]:
        options = body.options(temperature=state.settings.temperature)
        return [await state.llm.prepare_fim(body.prompt, body.suffix or "", **options)]

    return await generate(request, state, body, prepare, chat_rendering(state, body))


@router.post("/v1/completions", responses=answers(TextAnswer, streams=True))
async def complete_text(body: CompletionBody, request: Request, state: State) -> Response:
    """Go on with texts, for OpenAI's clients; with a `suffix`, fill in the middle."""
    body.check(state.settings.limits)

    async def prepare() -> list[PreparedRequest]:
        options = body.options(temperature=state.settings.temperature)
        requests = []
        for row, prompt in enumerate(body.prompts):
            if body.suffix is not None and isinstance(prompt, str):
                requests.append(await state.llm.prepare_fim(prompt, body.suffix, **options))
            else:
                requests.append(await state.llm.prepare_text(prompt, row=row * body.num_choices, **options))
        return requests

    envelope = completion_envelope(state.llm.name)
    heads = [
        prompt if body.echo and isinstance(prompt, str) else ""
        for prompt in body.prompts
        for _ in range(body.num_choices)
    ]
    rendering = Rendering(
        whole=lambda answers: text_completion(envelope, answers, num_choices=body.num_choices, heads=heads),
        chunks=lambda events: completion_chunks(
            envelope,
            events,
            num_choices=body.num_choices,
            heads=heads,
            wants_usage_chunk=body.wants_usage_chunk,
        ),
    )
    return await generate(request, state, body, prepare, rendering)
