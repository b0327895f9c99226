"""--content_filter: the loaded model judges each prompt before it answers, and harmful ones are refused as Azure does it.

Everything that the model is to see is judged.  Answers are not, whether streamed or whole.
"""

from __future__ import annotations

from typing import Any

from mistral_local.server.errors import ApiError
from mistral_local.tasks.async_llm import AsyncLLM
from mistral_local.tasks.moderation import Moderation
from mistral_local.tasks.prepared import PreparedRequest

AZURE_NAMES = {
    "sexual": "sexual",
    "hate_and_discrimination": "hate",
    "violence_and_threats": "violence",
    "dangerous_and_criminal_content": "dangerous_and_criminal_content",
    "selfharm": "self_harm",
}
"""Our categories in the words of Azure; it has none for crimes."""

HIGH = 0.75
"""From this score on a flagged category is of high severity, below it of medium."""


async def refuse_harmful(llm: AsyncLLM, requests: list[PreparedRequest]) -> None:
    """Judge what the model is to see.

    Raises:
        ApiError: 400, if a category is flagged.
        PromptTooLongError: if the context has no room for the question.
    """
    for moderation in await llm.moderate_prompts([request.tokens for request in requests]):
        if moderation.is_flagged:
            raise _refusal(moderation)


def _refusal(moderation: Moderation) -> ApiError:
    flagged = [key for key, is_flagged in moderation.categories.items() if is_flagged]
    result = {AZURE_NAMES[key]: _severity(score, key in flagged) for key, score in moderation.scores.items()}
    return ApiError(
        400,
        f"the content filter of this server refuses the prompt: {', '.join(flagged)}",
        param="prompt",
        code="content_filter",
        inner={"code": "ResponsibleAIPolicyViolation", "content_filter_result": result},
    )


def _severity(score: float, is_flagged: bool) -> dict[str, Any]:
    severity = "safe" if not is_flagged else "high" if score >= HIGH else "medium"
    return {"filtered": is_flagged, "severity": severity}
