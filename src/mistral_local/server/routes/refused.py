"""Routes of the hosted APIs that the loaded model has no ability for: a 400 that says so, not a 404."""

from __future__ import annotations

from fastapi import APIRouter

from mistral_local.server.errors import ApiError
from mistral_local.server.schemas.answers import ErrorBody

router = APIRouter()

UNABLE = {
    "/v1/ocr": "the loaded model has no vision, which OCR needs",
    "/v1/audio/transcriptions": "the loaded model has no audio, which transcription needs",
    "/v1/classifications": "the loaded model is no classifier",
    "/v1/chat/classifications": "the loaded model is no classifier",
}


def _add_refusal(path: str, reason: str) -> None:
    async def refuse() -> None:
        raise ApiError(400, reason, code="unsupported_ability")

    router.add_api_route(
        path, refuse, methods=["POST"], status_code=400, response_model=ErrorBody, summary="Refused", description=reason
    )


for _path, _reason in UNABLE.items():
    _add_refusal(_path, _reason)
