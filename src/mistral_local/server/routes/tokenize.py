"""POST /v1/tokenize: what the model sees of a request, token by token."""

from __future__ import annotations

import json
from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from mistral_local.inspect.explain import explain_request
from mistral_local.server.body import JsonRoute
from mistral_local.server.errors import ApiError
from mistral_local.server.generation import while_connected
from mistral_local.server.openapi import answers
from mistral_local.server.schemas.answers import TokenizeAnswer
from mistral_local.server.schemas.tokenize import TokenizeBody
from mistral_local.server.state import ServerState, State

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/tokenize", responses=answers(TokenizeAnswer))
async def tokenize(body: TokenizeBody, request: Request, state: State) -> Response:
    """List the tokens of a request and what each comes from, as `mistral-local explain` does; nothing is computed."""
    body.check(state.settings.limits)
    content = await while_connected(request, state.llm.apart(lambda: _explained(body, state)))
    return Response(content, media_type="application/json")


def _explained(body: TokenizeBody, state: ServerState) -> bytes:
    """The answer as JSON; takes time if the request is long.

    Raises:
        RequestError: if a field cannot be served.
        ApiError: 400, if there are more tokens than are listed.
    """
    explained, most = explain_request(state.llm.tokenizer, body.request()), state.settings.limits.tokenize
    count = len(explained.tokens)
    if count > most:
        raise ApiError(400, f"the request has {count} tokens; at most {most} are listed", code="too_many_tokens")
    about = {
        "model": state.llm.name,
        "tokenizer": state.llm.tokenizer.version,
        "count": count,
        "max_context_length": state.llm.context_length,
    }
    return json.dumps(about | asdict(explained), ensure_ascii=False).encode("utf-8", "replace")
