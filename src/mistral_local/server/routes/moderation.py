"""POST /v1/moderations and /v1/chat/moderations: the loaded model judges what is sent."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request

from mistral_local.server.body import JsonRoute
from mistral_local.server.generation import while_connected
from mistral_local.server.openapi import answers
from mistral_local.server.schemas.answers import ModerationAnswer
from mistral_local.server.schemas.moderation import ChatModerationBody, ModerationBody
from mistral_local.server.state import ServerState, State
from mistral_local.tasks.moderation import Moderation

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/moderations", responses=answers(ModerationAnswer))
async def moderate(body: ModerationBody, request: Request, state: State) -> dict[str, Any]:
    """Judge texts by the nine categories of the Mistral API; a judgement is as good as the loaded model."""
    body.check(state.settings.limits)
    return _answer(state, *await while_connected(request, state.llm.moderate(body.texts)))


@router.post("/v1/chat/moderations", responses=answers(ModerationAnswer))
async def moderate_chat(body: ChatModerationBody, request: Request, state: State) -> dict[str, Any]:
    """Judge the last message of each conversation, seen in its context."""
    body.check(state.settings.limits)
    return _answer(state, *await while_connected(request, state.llm.moderate_chats(body.conversations)))


def _answer(state: ServerState, moderations: list[Moderation], num_tokens: int) -> dict[str, Any]:
    """What the clients of Mistral and OpenAI both read."""
    return {
        "id": uuid.uuid4().hex,
        "model": state.llm.name,
        "results": [
            {
                "flagged": moderation.is_flagged,
                "categories": moderation.categories,
                "category_scores": moderation.scores,
            }
            for moderation in moderations
        ],
        "usage": {"prompt_tokens": num_tokens, "completion_tokens": 0, "total_tokens": num_tokens},
    }
