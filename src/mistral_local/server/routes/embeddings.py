"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import sys
import uuid
from array import array
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mistral_local.server.body import JsonRoute
from mistral_local.server.errors import ApiError
from mistral_local.server.generation import while_connected
from mistral_local.server.openapi import answers
from mistral_local.server.schemas.answers import EmbeddingsAnswer
from mistral_local.server.schemas.embeddings import EmbeddingsBody
from mistral_local.server.state import ServerState, State

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/embeddings", responses=answers(EmbeddingsAnswer))
async def embed(body: EmbeddingsBody, request: Request, state: State) -> Response:
    """One vector of length 1 per text: the last hidden states, pooled and normalised."""
    return await answer_embeddings(body, request, state)


async def answer_embeddings(body: EmbeddingsBody, request: Request, state: ServerState) -> Response:
    """Embed texts, whatever route they came by."""
    body.check(state.settings.limits)
    for name in ("dimensions", "output_dimension"):
        wanted = getattr(body, name)
        if wanted not in (None, state.llm.embedding_length):
            message = f"{name}: the vectors of this model have {state.llm.embedding_length} numbers, got {wanted}"
            raise ApiError(400, message, param=name)
    vectors, num_tokens = await while_connected(request, state.llm.embed(body.inputs, pooling=body.pooling))
    return JSONResponse(
        {
            "id": uuid.uuid4().hex,
            "object": "list",
            "model": state.llm.name,
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": num_tokens, "completion_tokens": 0, "total_tokens": num_tokens},
        }
    )


def _encoded(vector: list[float], encoding: str | None) -> Any:
    """Numbers, or base64 of little-endian float32 if the client asks for it, as OpenAI's clients do."""
    if encoding != "base64":
        return vector
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
