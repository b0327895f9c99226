"""Fill-in-the-middle, text completion and embeddings over HTTP, and what is refused."""

import base64
import json
import math
import struct
from typing import Any

import pytest
from live import Live

FIM: dict[str, Any] = {"prompt": "def add(", "suffix": "    return sum", "temperature": 0, "max_tokens": 20}
TEXT: dict[str, Any] = {"prompt": "This is a test", "temperature": 0, "max_tokens": 10}


def chunks(live: Live, path: str, **body: Any) -> list[Any]:
    lines = [line for line in live.post(path, **body, stream=True).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_fim_answers_in_the_form_of_chat_streamed_and_not(live: Live) -> None:
    whole = live.post("/v1/fim/completions", **FIM).json()
    assert whole["object"] == "chat.completion"
    text = whole["choices"][0]["message"]["content"]
    assert text
    streamed = chunks(live, "/v1/fim/completions", **FIM)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed) == text
    assert live.post("/v1/completions", **FIM).json()["choices"][0]["text"] == text
    other = live.post("/v1/fim/completions", **{**FIM, "suffix": None}).json()
    assert other["usage"]["prompt_tokens"] < whole["usage"]["prompt_tokens"]


def test_texts_are_completed_streamed_and_not(live: Live) -> None:
    body = {**TEXT, "prompt": ["This is a test", "Hello"], "n": 2, "temperature": 1.0, "seed": 4}
    whole = live.post("/v1/completions", **body).json()
    assert whole["object"] == "text_completion"
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    texts = [choice["text"] for choice in whole["choices"]]
    assert len(set(texts)) == 4
    streamed = chunks(live, "/v1/completions", **body)
    for index, text in enumerate(texts):
        choices = [chunk["choices"][0] for chunk in streamed if chunk["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in choices) == text
    assert streamed[-1]["usage"] == whole["usage"]
    alone = live.post("/v1/completions", **{**body, "prompt": "Hello", "n": 1}).json()["usage"]
    assert whole["usage"]["prompt_tokens"] < 4 * 5
    assert whole["usage"]["prompt_tokens"] > alone["prompt_tokens"]


def test_echo_logprobs_and_token_ids(live: Live) -> None:
    text = live.post("/v1/completions", **TEXT).json()["choices"][0]["text"]
    echoed = live.post("/v1/completions", **TEXT, echo=True).json()["choices"][0]["text"]
    assert echoed == TEXT["prompt"] + text
    scored = live.post("/v1/completions", **TEXT, logprobs=2).json()["choices"][0]["logprobs"]
    assert "".join(scored["tokens"]) == text
    assert scored["text_offset"][1] == len(scored["tokens"][0])
    assert all(len(top) == 2 for top in scored["top_logprobs"])
    ids = live.post("/v1/completions", **{**TEXT, "prompt": [1, 1073, 1855]}).json()
    assert ids["usage"]["prompt_tokens"] == 3
    assert live.post("/v1/completions", **{**TEXT, "max_tokens": None}).json()["usage"]["completion_tokens"] <= 16


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/fim/completions", {}, 422),
        ("/v1/fim/completions", {"prompt": 5}, 422),
        ("/v1/fim/completions", {"prompt": "", "max_tokens": 2}, 200),
        ("/v1/completions", {"prompt": []}, 422),
        ("/v1/completions", {"prompt": [[]]}, 422),
        ("/v1/completions", {"prompt": ["a", 5]}, 422),
        ("/v1/completions", {"prompt": [-1]}, 422),
        ("/v1/completions", {"prompt": [10**8]}, 400),
        ("/v1/completions", {"prompt": ["a"] * 100}, 422),
        ("/v1/completions", {"prompt": ["a"] * 10, "n": 16}, 422),
        ("/v1/completions", {"prompt": "a", "best_of": 5}, 422),
        ("/v1/completions", {"prompt": [5], "suffix": "x"}, 422),
        ("/v1/completions", {"prompt": "a", "echo": True, "logprobs": 1}, 422),
        ("/v1/completions", {"prompt": "", "max_tokens": 2}, 200),
        ("/v1/completions", {"prompt": "word " * 3000}, 400),
        ("/v1/embeddings", {}, 422),
        ("/v1/embeddings", {"input": []}, 422),
        ("/v1/embeddings", {"input": ["x"] * 1000}, 422),
        ("/v1/embeddings", {"input": "x", "dimensions": 3}, 400),
        ("/v1/embeddings", {"input": "x", "encoding_format": "hex"}, 422),
        ("/v1/embeddings", {"input": "x", "pooling": "max"}, 422),
        ("/v1/embeddings", {"input": "word " * 3000}, 400),
        ("/v1/embeddings", {"input": [[10**8]]}, 400),
        ("/v1/embeddings", {"input": ""}, 200),
    ],
    ids=lambda value: str(value)[:50],
)
def test_bad_bodies_are_4xx_and_odd_ones_are_answered(live: Live, path: str, body: dict[str, Any], status: int) -> None:
    response = live.post(path, **body)
    assert response.status_code == status, response.text
    if status != 200:
        assert response.json()["error"]["message"]


def test_embeddings_have_length_1_in_both_encodings(live: Live) -> None:
    texts = ["one text", "another", "one text", "d", "e", "f", "g"]
    answer = live.post("/v1/embeddings", input=texts).json()
    vectors = [item["embedding"] for item in answer["data"]]
    assert [item["index"] for item in answer["data"]] == list(range(7))
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-5) for vector in vectors)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-3)
    assert vectors[0] != pytest.approx(vectors[1], abs=1e-3)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 7
    coded = live.post("/v1/embeddings", input="one text", encoding_format="base64").json()["data"][0]["embedding"]
    raw = base64.b64decode(coded)
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(vectors[0], abs=1e-3)
    last = live.post("/v1/embeddings", input="one text", pooling="last").json()["data"][0]["embedding"]
    assert last != pytest.approx(vectors[0], abs=1e-3)


@pytest.mark.parametrize("path", ["ocr", "audio/transcriptions", "classifications", "chat/classifications"])
def test_abilities_that_the_model_lacks_are_400_whatever_is_sent(live: Live, path: str) -> None:
    for body in ({"json": {"model": "m"}}, {"files": {"file": b"x"}}, {"data": {"stream": "false"}}):
        response = live.http.post(f"/v1/{path}", **body)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "unsupported_ability"


@pytest.mark.parametrize("path", ["responses", "agents/completions", "conversations"])
def test_routes_that_are_out_of_scope_are_404_in_the_error_shape(live: Live, path: str) -> None:
    response = live.post(f"/v1/{path}", model="m")
    assert response.status_code == 404
    assert "no route" in response.json()["error"]["message"]
