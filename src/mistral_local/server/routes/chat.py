"""POST /v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from mistral_local.server.body import JsonRoute
from mistral_local.server.generation import chat_rendering, generate
from mistral_local.server.openapi import answers
from mistral_local.server.schemas.answers import ChatAnswer
from mistral_local.server.schemas.chat import ChatBody
from mistral_local.server.state import ServerState, State
from mistral_local.tasks.prepared import PreparedRequest

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/chat/completions", responses=answers(ChatAnswer, streams=True))
async def complete_chat(body: ChatBody, request: Request, state: State) -> Response:
    """Answer a conversation, for the clients of Mistral and OpenAI; streamed if `stream` is true."""
    return await answer_chat(body, request, state)


async def answer_chat(body: ChatBody, request: Request, state: ServerState) -> Response:
    """Answer a conversation, whatever route it came by."""
    body.check(state.settings.limits)

    async def prepare() -> list[PreparedRequest]:
        options = body.options(temperature=state.settings.temperature)
        return [await state.llm.prepare_chat(body.messages, **body.fields(), **options)]

    return await generate(request, state, body, prepare, chat_rendering(state, body))
