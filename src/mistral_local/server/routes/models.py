"""GET /v1/models: the one model that is loaded, and what it can do."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from mistral_local.server.openapi import answers
from mistral_local.server.schemas.answers import ModelCard, ModelList
from mistral_local.server.state import ServerState, State

router = APIRouter()


@router.get("/v1/models", responses=answers(ModelList))
async def list_models(state: State) -> dict[str, Any]:
    """The loaded model, whatever name requests call it by."""
    return {"object": "list", "data": [model_card(state)]}


@router.get("/v1/models/{model:path}", responses=answers(ModelCard))
async def retrieve_model(model: str, state: State) -> dict[str, Any]:
    """The loaded model: every name reaches it."""
    return model_card(state)


def model_card(state: ServerState) -> dict[str, Any]:
    """A model as the clients of Mistral and OpenAI read it; its capabilities are those that requests will find."""
    llm = state.llm
    return {
        "id": llm.name,
        "object": "model",
        "created": state.started_at,
        "owned_by": "mistral_local",
        "type": "base",
        "name": llm.name,
        "description": llm.description,
        "capabilities": {
            "completion_chat": True,
            "completion_fim": llm.has_fim,
            "function_calling": llm.has_tools,
            "fine_tuning": False,
            "vision": False,
            "classification": False,
            "moderation": llm.can_moderate,
            "ocr": False,
            "audio": False,
            "audio_transcription": False,
        },
        "max_context_length": llm.context_length,
        "aliases": [],
        "default_model_temperature": state.settings.temperature,
    }
