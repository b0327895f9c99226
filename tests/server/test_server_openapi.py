"""The OpenAPI document: what it says of each route is true, and no request that it allows, or forbids, gets a 5xx."""

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from live import KEY, TOOL, USER, Live, running
from pydantic import TypeAdapter

from mistral_local.server.schemas import answers
from mistral_local.server.schemas.answers import ErrorBody

SCORED = {"logprobs": True, "top_logprobs": 1}
ASKED: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": USER, "n": 2, **SCORED}, "ChatAnswer"),
    ("/v1/chat/completions", {"messages": USER, "tools": [TOOL], "tool_choice": "any", "max_tokens": 90}, "ChatAnswer"),
    ("/chat/completions", {"messages": USER}, "ChatAnswer"),
    ("/v1/fim/completions", {"prompt": "def add(", "suffix": "return x"}, "ChatAnswer"),
    ("/v1/completions", {"prompt": ["a", "b"], "logprobs": 1}, "TextAnswer"),
    ("/v1/completions", {"prompt": [1, 1073]}, "TextAnswer"),
    ("/v1/embeddings", {"input": ["a", "b"]}, "EmbeddingsAnswer"),
    ("/embeddings", {"input": "a", "encoding_format": "base64"}, "EmbeddingsAnswer"),
    ("/v1/moderations", {"input": "a"}, "ModerationAnswer"),
    ("/v1/chat/moderations", {"input": USER}, "ModerationAnswer"),
    ("/v1/tokenize", {"messages": USER}, "TokenizeAnswer"),
]


@pytest.fixture(scope="module")
def document(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live.http.get("/openapi.json").json()
    return found


def described(document: dict[str, Any], path: str, method: str, status: str) -> str:
    """The name of the schema of an answer."""
    content = document["paths"][path][method]["responses"][status]["content"]["application/json"]
    return str(content["schema"]["$ref"].rpartition("/")[2])


@pytest.mark.parametrize(("path", "body", "name"), ASKED, ids=lambda value: str(value)[:60])
def test_an_answer_is_what_the_document_says(
    live: Live, document: dict[str, Any], path: str, body: dict[str, Any], name: str
) -> None:
    limit = {"max_tokens": 5} if "completions" in path else {}
    answer = live.post(path, **limit | body)
    assert answer.status_code == 200, answer.text
    TypeAdapter(getattr(answers, name)).validate_json(answer.content, strict=True)
    assert described(document, path, "post", "200") == name
    refused = live.post(path, unheard_of=1, prompt=5)
    TypeAdapter(ErrorBody).validate_json(refused.content, strict=True)
    assert described(document, path, "post", str(refused.status_code)) == "ErrorBody"


@pytest.mark.parametrize(("path", "name"), [("/v1/models", "ModelList"), ("/v1/models/{model}", "ModelCard")])
def test_the_cards_are_what_the_document_says(live: Live, document: dict[str, Any], path: str, name: str) -> None:
    TypeAdapter(getattr(answers, name)).validate_json(live.http.get(path).content, strict=True)
    assert described(document, path, "get", "200") == name


def test_the_document_names_the_keys_and_the_refusals(live: Live, document: dict[str, Any]) -> None:
    assert document["security"] == [{"bearer": []}, {"api-key": []}]
    refused = document["paths"]["/v1/ocr"]["post"]["responses"]
    assert "200" not in refused
    TypeAdapter(ErrorBody).validate_json(live.post("/v1/ocr").content, strict=True)
    assert all("500" in route["responses"] for methods in document["paths"].values() for route in methods.values())
    with running(api_key=None) as open_server:
        assert "security" not in open_server.http.get("/openapi.json").json()


def test_the_page_shows_every_route_and_loads_nothing(live: Live, document: dict[str, Any]) -> None:
    page = live.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in document["paths"]:
        assert path in page.text
    for words in ("response_format", "parallel_tool_calls", "finish_reason", "accepted, because clients send it"):
        assert words in page.text
    assert not re.search(r"<script|https?://|src=", page.text)


@pytest.mark.long
def test_schemathesis_finds_no_5xx_and_no_answer_that_is_not_described() -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    statuses: Counter[tuple[str, int]] = Counter()

    def check(case: Any) -> None:
        if isinstance(case.body, dict) and "messages" in case.body and sum(statuses.values()) % 2:
            case.body = {**case.body, "messages": USER}  # random roles are hardly ever a conversation
        response = case.call_and_validate(headers={"api-key": KEY}, timeout=120, checks=checks)
        statuses[case.operation.path, response.status_code] += 1

    with running(engine={"max_context": 256}) as live:
        schema = schemathesis.openapi.from_url(f"{live.url}/openapi.json", headers={"api-key": KEY})
        for found in schema.get_all_operations():
            how: Any = {"deadline": None, "database": None, "derandomize": True, "max_examples": 40}
            quietly = settings(**how, suppress_health_check=list(HealthCheck))
            quietly(given(case=found.ok().as_strategy())(check))()
    for path in {path for path, _, _ in ASKED} - {"/v1/chat/moderations"}:
        assert statuses[path, 200], f"no request to {path} was answered: {statuses}"
