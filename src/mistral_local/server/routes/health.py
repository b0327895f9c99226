"""GET /health, /ready and /metrics: for whoever watches the process."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from mistral_local.server.errors import ApiError
from mistral_local.server.state import State

router = APIRouter()


@router.get("/health")
async def is_alive() -> dict[str, Any]:
    """Whether the process answers; needs no key."""
    return {"status": "ok"}


@router.get("/ready")
async def is_ready(state: State) -> dict[str, Any]:
    """Whether new requests are taken.

    Raises:
        ApiError: 503, while it shuts down or when the engine has died.
    """
    if state.is_draining:
        raise ApiError(503, "the server is shutting down")
    if not state.llm.is_running:
        raise ApiError(503, "the engine does not run")
    return {"status": "ready", "model": state.llm.name}


@router.get("/metrics", response_class=PlainTextResponse)
async def read_metrics(state: State) -> Response:
    """The numbers of now, for Prometheus."""
    return Response(state.metrics.expose(await state.llm.stats()), media_type=CONTENT_TYPE_LATEST)
