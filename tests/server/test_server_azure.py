"""The Azure AI inference API at the root: its extras and its names."""

from typing import Any

import pytest
from live import USER, Live

BODY: dict[str, Any] = {"messages": USER, "temperature": 0, "max_tokens": 5}


@pytest.mark.parametrize(
    ("headers", "extra", "status"),
    [
        ({}, {"unheard_of": 1}, 422),
        ({"extra-parameters": "error"}, {"unheard_of": 1}, 422),
        ({"extra-parameters": "pass-through"}, {"unheard_of": 1}, 200),
        ({"extra-parameters": "drop"}, {"unheard_of": 1}, 200),
        ({"extra-params": "passthrough"}, {"unheard_of": 1}, 200),
        ({"extra-parameters": "what"}, {}, 400),
        ({}, {"safe_mode": True, "logprobs": True}, 200),
        ({"extra-parameters": "pass-through"}, {"temperature": 5}, 422),
    ],
)
def test_unknown_fields_are_refused_unless_the_header_allows_them(
    live: Live, headers: dict[str, str], extra: dict[str, Any], status: int
) -> None:
    path = "/chat/completions?api-version=2024-05-01-preview"
    answer = live.http.post(path, json={**BODY, **extra}, headers=headers)
    assert answer.status_code == status, answer.text


def test_safe_mode_is_safe_prompt(live: Live) -> None:
    by_mode, by_prompt = (
        live.post("/chat/completions", **BODY, **{name: True}) for name in ("safe_mode", "safe_prompt")
    )
    assert by_mode.json()["usage"] == by_prompt.json()["usage"]
    assert by_mode.json()["usage"]["prompt_tokens"] > live.chat().json()["usage"]["prompt_tokens"] + 10


def test_the_model_has_the_type_that_all_versions_of_the_client_know(live: Live) -> None:
    assert live.http.get("/info").json()["model_type"] == "chat"
