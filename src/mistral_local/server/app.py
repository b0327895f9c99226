"""The app: routes, and what stands around all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import mistral_local
from mistral_local.server.auth import Auth
from mistral_local.server.errors import add_error_handlers
from mistral_local.server.log import RequestLog
from mistral_local.server.openapi import ERRORS, JSON_ERRORS, describe
from mistral_local.server.routes import (
    azure,
    chat,
    completion,
    docs,
    embeddings,
    execute,
    health,
    models,
    moderation,
    refused,
    tokenize,
)
from mistral_local.server.settings import ServerSettings
from mistral_local.server.state import ServerState
from mistral_local.server.unread import DropUnread
from mistral_local.tasks.async_llm import AsyncLLM

DESCRIPTION = (
    "Mistral's open-weight models behind the APIs of Mistral, OpenAI and Azure AI inference. Every model name reaches the "
    "loaded model. A field that is not listed is refused, and null is as if not given."
)

JSON_ROUTERS = (
    models.router,
    chat.router,
    completion.router,
    embeddings.router,
    moderation.router,
    tokenize.router,
    azure.router,
    execute.router,
)
OTHER_ROUTERS = (health.router, refused.router, docs.router)


def make_app(llm: AsyncLLM, settings: ServerSettings) -> FastAPI:
    """Make the ASGI app of one model; its engine runs from the app's start to its shutdown.

    Args:
        llm: not entered yet.
    """

    @asynccontextmanager
    async def run_engine(_: FastAPI) -> AsyncIterator[None]:
        async with llm:
            yield

    app = FastAPI(
        title="mistral_local",
        version=mistral_local.__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=run_engine,
    )
    app.state.server = state = ServerState(llm, settings)
    for router in JSON_ROUTERS:
        app.include_router(router, responses=JSON_ERRORS)
    for router in OTHER_ROUTERS:
        app.include_router(router, responses=ERRORS)
    describe(app, has_key=settings.api_key is not None)
    add_error_handlers(app)
    app.add_middleware(Auth, settings=settings)
    app.add_middleware(DropUnread)
    app.add_middleware(RequestLog, metrics=state.metrics)
    return app
