"""From the messages of a caller to mistral_common's request: only text passes, and nothing is opened."""

from pathlib import Path
from typing import Any

import pytest

from mistral_local.errors import RequestError
from mistral_local.tasks.chat import chat_request


def user(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *chunks]}]


def test_images_are_refused_and_never_opened(tmp_path: Path) -> None:
    for url in ("https://example.invalid/a.png", f"file://{tmp_path}/a.png", "data:image/png;base64,AAAA"):
        with pytest.raises(RequestError, match=r"messages.0.content: only text is supported, found image_url"):
            chat_request(user({"type": "image_url", "image_url": url}))


def test_audio_is_refused() -> None:
    with pytest.raises(RequestError, match=r"messages.0.content: only text is supported, found input_audio"):
        chat_request(user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}))


def test_text_in_chunks_passes() -> None:
    chat = chat_request(user({"type": "text", "text": "Say."}))
    assert [chunk.text for chunk in chat.request.messages[0].content] == ["What is this?", "Say."]
