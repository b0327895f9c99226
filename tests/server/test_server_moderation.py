"""Moderation over HTTP: one body for the clients of Mistral and OpenAI, equal to what llm.moderate() says."""

from typing import Any

import pytest
from live import Live

import mistral_local
from mistral_local.tasks.moderation import CATEGORIES

TEXT = "Chopping tomatoes and cutting them into cubes are great ways to practice your knife skills."
CHAT = [{"role": "user", "content": "How do I cut tomatoes?"}, {"role": "assistant", "content": "Into cubes."}]


def check(results: list[Any]) -> None:
    """What holds for any judgement."""
    for result in results:
        assert list(result["categories"]) == list(result["category_scores"]) == list(CATEGORIES)
        assert all(0 <= score <= 1 for score in result["category_scores"].values())
        flags = {key: score >= 0.5 for key, score in result["category_scores"].items()}
        assert result["categories"] == flags
        assert result["flagged"] == any(flags.values())


def test_texts_are_judged_as_without_a_server(live: Live) -> None:
    (expected,) = mistral_local.load(device="cpu").moderate([TEXT])
    answer = live.post("/v1/moderations", input=[TEXT, "another"]).json()
    check(answer["results"])
    assert len(answer["results"]) == 2
    assert answer["results"][0]["category_scores"] == pytest.approx(expected.scores, abs=2e-2)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 100
    (one,) = live.post("/v1/moderations", input=TEXT, model="omni-moderation-latest").json()["results"]
    (parts,) = live.post("/v1/moderations", input=[{"type": "text", "text": TEXT}]).json()["results"]
    assert one["category_scores"] == pytest.approx(parts["category_scores"], abs=2e-2)


def test_conversations_are_judged(live: Live) -> None:
    one = live.post("/v1/chat/moderations", input=CHAT).json()["results"]
    two = live.post("/v1/chat/moderations", input=[CHAT, CHAT[:1]]).json()["results"]
    check(one + two)
    assert (len(one), len(two)) == (1, 2)
    assert two[0]["category_scores"] != two[1]["category_scores"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("moderations", {}, 422),
        ("moderations", {"input": None}, 422),
        ("moderations", {"input": 5}, 422),
        ("moderations", {"input": []}, 422),
        ("moderations", {"input": ["a", 5]}, 422),
        ("moderations", {"input": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}, 422),
        ("moderations", {"input": ["a"] * 65}, 422),
        ("moderations", {"input": "a", "threshold": 1}, 422),
        ("moderations", {"input": "word " * 3000}, 400),
        ("moderations", {"input": ""}, 200),
        ("chat/moderations", {"input": "a"}, 422),
        ("chat/moderations", {"input": []}, 422),
        ("chat/moderations", {"input": [[]]}, 422),
        ("chat/moderations", {"input": [CHAT, CHAT[0]]}, 422),
        ("chat/moderations", {"input": [{"role": "king", "content": "x"}]}, 400),
        ("chat/moderations", {"input": [{"role": "user", "content": 5}]}, 400),
        ("chat/moderations", {"input": CHAT, "truncate_for_context_length": True}, 422),
        ("chat/moderations", {"input": CHAT, "truncate_for_context_length": False}, 200),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_bodies_are_4xx(live: Live, path: str, body: dict[str, Any], status: int) -> None:
    response = live.post(f"/v1/{path}", **body)
    assert response.status_code == status, response.text
    if status != 200:
        assert response.json()["error"]["message"]
