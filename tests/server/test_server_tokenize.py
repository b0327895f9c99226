"""/v1/tokenize says what `mistral-local explain` says, and what the chat route counts."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from live import TOOL, USER, Live, running

from mistral_local.cli.explain import explain
from mistral_local.server.settings import Limits

CALL = {"id": "call_abc", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_abc", "content": "sunny \u2600"},
    ],
    "tools": [TOOL],
    "safe_prompt": True,
    "temperature": 0,
    "seed": 3,
    "max_tokens": 2,
}


@pytest.mark.parametrize(
    "body", [CHAT, {"messages": USER}, {"prompt": "def add("}, {"prompt": "def add(", "suffix": "return x"}]
)
def test_it_says_what_explain_says(
    live: Live, body: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(body), encoding="utf-8")
    explain(str(file), json=True)
    expected = json.loads(capsys.readouterr().out)
    answer = live.post("/v1/tokenize", **body).json()
    assert answer == {
        **expected, "model": "mistral-local-demo", "count": len(expected["tokens"]), "max_context_length": 1024,
    }  # fmt: skip


def test_the_count_is_that_of_the_chat_route_and_each_message_has_its_tokens(live: Live) -> None:
    answer = live.post("/v1/tokenize", **CHAT).json()
    assert answer["count"] == live.post("/v1/chat/completions", **CHAT).json()["usage"]["prompt_tokens"]
    sources = {token["source"] for token in answer["tokens"]}
    assert {"safe_prompt system", "messages.0 system", "messages.1 user", "messages.3 tool", "tools"} <= sources
    assert list(answer["ids"]) == ["call_abc"]


def test_any_body_of_the_chat_route_can_be_asked_about(live: Live) -> None:
    harmless: dict[str, Any] = dict.fromkeys(
        ("stream_options", "prediction", "store", "modalities", "service_tier", "prompt_cache_key", "user"), "x"
    )
    harmless |= {"response_format": None, "max_completion_tokens": 4, "logit_bias": {"5": 1}, "stop": "x"}
    answer = live.post("/v1/tokenize", **CHAT, **harmless)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "neither messages nor prompt"),
        ({"messages": None}, 400, "neither messages nor prompt"),
        ({"messages": "x"}, 422, "messages"),
        ({"messages": []}, 400, ""),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "messages.0"),
        ({"prompt": 5}, 422, "prompt"),
        ({"prompt": "a", "unheard_of": 1}, 400, "unheard_of: there is no such field"),
        ({"messages": USER, "temperature": -1}, 400, "temperature"),
        ({"messages": USER, "logit_bias": {"x": 1}}, 400, "logit_bias"),
        ({"messages": USER, "logit_bias": {"5": None}}, 400, "logit_bias"),
        ({"messages": USER, "tools": [TOOL] * 300}, 422, "tools: at most 256"),
        ({"messages": USER * 5000}, 422, "messages: at most 4096"),
        ({"prompt": "word " * 70_000}, 400, "at most 65536 are listed"),
        ({"prompt": "word " * 3000}, 200, ""),
        ({"prompt": ""}, 200, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_bodies_are_4xx_and_a_prompt_beyond_the_context_is_counted(
    live: Live, body: dict[str, Any], status: int, words: str
) -> None:
    answer = live.post("/v1/tokenize", **body)
    assert answer.status_code == status, answer.text[:300]
    if status != 200:
        assert words in answer.json()["error"]["message"]


def test_a_long_text_does_not_hold_up_the_event_loop() -> None:
    with running(limits=Limits(tokenize=10)) as live:
        answers: list[int] = []
        text = "word " * 400_000
        asking = threading.Thread(target=lambda: answers.append(live.post("/v1/tokenize", prompt=text).status_code))
        asking.start()
        times = []
        while asking.is_alive():
            times.append(live.http.get("/health").elapsed.total_seconds())
        assert answers == [400]
        assert len(times) > 3
        assert sorted(times)[len(times) // 2] < 0.25
