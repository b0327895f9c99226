"""GET /docs: every route and field on a page of our own, which loads nothing from elsewhere."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mistral_local.server.openapi import page

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def show_document(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page."""
    return HTMLResponse(page(request.app.openapi()))
