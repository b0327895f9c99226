"""GET /info, POST /chat/completions and /embeddings: the model inference API of Azure AI, at the root."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from mistral_local.server.body import JsonRoute
from mistral_local.server.openapi import answers
from mistral_local.server.routes.chat import answer_chat
from mistral_local.server.routes.embeddings import answer_embeddings
from mistral_local.server.schemas.answers import ChatAnswer, EmbeddingsAnswer
from mistral_local.server.schemas.azure import AzureChatBody, AzureEmbeddingsBody, check_extras
from mistral_local.server.state import State

router = APIRouter(route_class=JsonRoute)


@router.get("/info")
async def tell_model(state: State) -> dict[str, str]:
    """The loaded model."""
    return {"model_name": state.llm.name, "model_type": "chat", "model_provider_name": "mistral_local"}


@router.post("/chat/completions", responses=answers(ChatAnswer, streams=True))
async def complete_chat(body: AzureChatBody, request: Request, state: State) -> Response:
    """Answer a conversation, for Azure's clients."""
    check_extras(body, request.headers)
    return await answer_chat(body, request, state)


@router.post("/embeddings", responses=answers(EmbeddingsAnswer))
async def embed(body: AzureEmbeddingsBody, request: Request, state: State) -> Response:
    """Embed texts, for Azure's clients."""
    check_extras(body, request.headers)
    return await answer_embeddings(body, request, state)
