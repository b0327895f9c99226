"""Who may ask, what a body may be, and the one body of all errors."""

import json
import socket
from typing import Any

import httpx
import pytest
from live import KEY, TOOL, USER, Live, running

from mistral_local.errors import UsageError
from mistral_local.server.settings import Limits, ServerSettings


def check_error(response: httpx.Response, status: int, words: str) -> dict[str, Any]:
    """Every error has the one body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert words in body["message"], body
    assert body["object"] == "error"
    assert body["error"] == {name: body[name] for name in ("message", "type", "param", "code")}
    assert isinstance(body["code"], str)
    return body


def post(live: Live, content: bytes, **headers: str) -> httpx.Response:
    return live.http.post(
        "/v1/chat/completions", content=content, headers={"content-type": "application/json", **headers}
    )


def test_health_needs_no_key_and_everything_else_does(live: Live) -> None:
    assert httpx.get(f"{live.url}/health").json() == {"status": "ok"}
    for path in ("/ready", "/v1/models", "/docs", "/openapi.json", "/nowhere"):
        check_error(httpx.get(f"{live.url}{path}"), 401, "API key is missing or wrong")
    assert live.http.get("/ready").json()["status"] == "ready"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"Authorization": f"bearer {KEY}"}, 200),
        ({"api-key": KEY}, 200),
        ({"Authorization": f"Bearer {KEY}", "api-key": KEY}, 200),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": f"Bearer {KEY}x"}, 401),
        ({"Authorization": "Bearer é".encode()}, 401),
        ({"api-key": ""}, 401),
        ({}, 401),
    ],
)
def test_the_key_comes_as_a_bearer_token_or_in_the_header_of_azure(
    live: Live, headers: dict[str, Any], status: int
) -> None:
    assert httpx.get(f"{live.url}/v1/models", headers=headers).status_code == status


def test_a_key_in_the_query_is_no_key(live: Live) -> None:
    assert httpx.get(f"{live.url}/v1/models?api_key={KEY}&api-key={KEY}").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[broken"}, 403),
        ({"Host": "evil.example:8000"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "localhost"}, 200),
    ],
)
def test_pages_of_strangers_may_not_ask(live: Live, headers: dict[str, str], status: int) -> None:
    assert live.http.get("/v1/models", headers=headers).status_code == status


def test_binding_elsewhere_needs_a_key() -> None:
    with pytest.raises(UsageError, match="a key is needed"):
        ServerSettings(host="0.0.0.0")
    assert not ServerSettings(host="0.0.0.0", api_key="k").is_local
    for host in ("127.0.0.1", "localhost", "::1"):
        assert ServerSettings(host=host).is_local
    assert "k3y" not in repr(ServerSettings(api_key="k3y"))


def test_limits_are_changed_by_name() -> None:
    limits = Limits().changed(("choices=2", "body_bytes=1MB"))
    assert (limits.choices, limits.body_bytes, limits.tools) == (2, 10**6, 256)
    assert "choices=2" in str(limits)
    for words, message in (("n=1", "no limit 'n'"), ("choices=x", "whole number"), ("choices=0", "at least 1")):
        with pytest.raises(UsageError, match=message):
            Limits().changed((words,))


def test_the_model_is_listed_with_its_true_capabilities(live: Live) -> None:
    (card,) = live.http.get("/v1/models").json()["data"]
    assert live.http.get("/v1/models/mistral-large-latest").json() == card
    assert card["type"] == "base"
    assert card["max_context_length"] == 1024
    able = {name for name, value in card["capabilities"].items() if value}
    assert able == {"completion_chat", "completion_fim", "function_calling", "moderation"}


def test_unknown_routes_and_methods_have_the_error_shape(live: Live) -> None:
    check_error(live.http.get("/v1/nothing"), 404, "no route GET /v1/nothing")
    check_error(live.http.get("/v1/chat/completions"), 405, "Method Not Allowed")


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "Field required"),
        (b"{", 400, "not JSON"),
        (b"[]", 422, ""),
        (b'"x"', 422, ""),
        (b"null", 422, ""),
        (b'{"messages": [], "temperature": NaN}', 400, "not JSON"),
        (b'{"messages": [], "temperature": Infinity}', 400, "not JSON"),
        (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "recursion"),
        (b'{"messages": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", 400, "recursion"),
        (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', 400, "hex escape"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', 400, "not JSON"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", 400, ""),
    ],
)
def test_what_is_no_json_is_refused(live: Live, content: bytes, status: int, words: str) -> None:
    check_error(post(live, content), status, words)


def test_other_media_types_are_refused(live: Live) -> None:
    check_error(post(live, b"{}", **{"content-type": "text/plain"}), 415, "expected Content-Type: application/json")
    check_error(post(live, b"{}", **{"content-type": ""}), 415, "got none")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"messages": []}, 422, "messages: "),
        ({"messages": None}, 422, "messages: "),
        ({"messages": "hi"}, 422, "messages: "),
        ({"messages": [5]}, 422, "messages.0: "),
        ({"messages": [{}]}, 400, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "messages.0"),
        ({"messages": [{"role": "assistant", "content": True, "reasoning_content": "x"}]}, 400, "messages.0"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, ""),
        ({"messages": [*USER, {"role": "assistant", "content": "x"}]}, 400, ""),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]}, 400, ""),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}]},
            400,
            "only text",
        ),
        ({"max_tokens": -1}, 422, "max_tokens: "),
        ({"max_tokens": True}, 422, "max_tokens: "),
        ({"max_tokens": "5"}, 422, "max_tokens: "),
        ({"max_tokens": 1.5}, 422, "max_tokens: "),
        ({"min_tokens": 10, "max_tokens": 5}, 400, "min_tokens"),
        ({"temperature": -0.1}, 422, "temperature: "),
        ({"temperature": 2.1}, 422, "temperature: "),
        ({"temperature": "hot"}, 422, "temperature: "),
        ({"top_p": 0}, 422, "top_p: "),
        ({"top_p": 1.5}, 422, "top_p: "),
        ({"top_k": -2}, 422, "top_k: "),
        ({"min_p": 2}, 422, "min_p: "),
        ({"n": 0}, 422, "n: "),
        ({"n": 10**6}, 422, "n: at most 16"),
        ({"best_of": 10**6}, 422, "best_of: there is no such field"),
        ({"logprobs": True, "top_logprobs": 10**6}, 422, "top_logprobs: "),
        ({"top_logprobs": 2}, 400, "needs logprobs"),
        ({"stop": [""]}, 422, "stop.0: "),
        ({"stop": ["x"] * 10_000}, 422, "stop: at most 16"),
        ({"stop": "x" * 1000}, 422, "stop.0: "),
        ({"stop": 5}, 422, "stop"),
        ({"presence_penalty": 3}, 422, "presence_penalty: "),
        ({"logit_bias": {"99999999": 1}}, 400, "outside the vocabulary"),
        ({"logit_bias": {"-1": 1}}, 422, "logit_bias"),
        ({"logit_bias": {"5": 1e300}}, 422, "logit_bias"),
        ({"repetition_penalty": 1e-40}, 422, "repetition_penalty"),
        ({"logit_bias": {"1": "x"}}, 422, "logit_bias"),
        ({"logit_bias": {str(number): 1 for number in range(2000)}}, 422, "logit_bias: at most 1024"),
        ({"seed": 2**70}, 422, "seed: "),
        ({"seed": 1, "random_seed": 2}, 422, "two names"),
        ({"tool_choice": "any"}, 400, "tool_choice: a call can only be asked for with tools"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, 400, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            400,
            "there is no tool",
        ),
        ({"tools": [{}]}, 400, "tools"),
        ({"tools": [TOOL] * 300}, 422, "tools: at most 256"),
        ({"response_format": {"type": "xml"}}, 400, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}},
            400,
            "",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"$ref": "http://x/y"}},
                }
            },
            400,
            "",
        ),
        ({"reasoning_effort": "enormous"}, 400, "reasoning_effort"),
        ({"prompt_mode": "reasoning"}, 422, "prompt_mode: the hosted system prompt for reasoning is not here"),
        ({"guardrails": [{}]}, 422, "guardrails: not here"),
        ({"prompt_logprobs": 1}, 422, "prompt_logprobs: only new tokens are scored"),
        ({"functions": []}, 422, "functions: an older form of tools"),
        ({"temprature": 1}, 422, "temprature: there is no such field"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, 400, "a context of 1024 leaves no room"),
        ({"messages": [{"role": "user", "content": "word " * 2000}], "max_tokens": 0}, 400, "a context of 1024"),
        ({"regex": "("}, 400, "regex"),
        ({"regex": "a", "lark": "start: /a/"}, 400, "one form only"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_is_a_4xx_that_names_the_field(
    live: Live, fields: dict[str, Any], status: int, words: str
) -> None:
    for stream in (False, True):
        body = check_error(live.chat(**fields, stream=stream), status, words)
        if status == 422 and "detail" in body:
            assert all(set(problem) == {"loc", "msg", "type"} for problem in body["detail"])


def test_errors_do_not_repeat_what_was_sent(live: Live) -> None:
    response = live.chat(temperature="a secret of mine", user="another secret")
    assert "secret" not in response.text


def test_a_head_that_does_not_come_closes_the_connection_and_no_other() -> None:
    with running(limits=Limits(head_seconds=1)) as live:
        host, port = live.url.removeprefix("http://").split(":")
        silent, slow = (socket.create_connection((host, int(port)), timeout=10) for _ in range(2))
        with silent, slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while not received.endswith(b'{"status":"ok"}'):
                received += slow.recv(1000)
            slow.sendall(b"GET /health HT")
            long = live.chat(min_tokens=800, max_tokens=800)
            assert silent.recv(100) == b""
            assert slow.recv(100) == b""
            assert long.status_code == 200


def test_large_slow_and_endless_bodies_are_cut_off() -> None:
    limits = Limits(body_bytes=1000, body_seconds=1)
    with running(limits=limits) as live:
        check_error(live.chat(user="x" * 2000), 413, "more than 1000 bytes")

        def endless() -> Any:
            for _ in range(100):
                yield b'{"user": "xxxxxxxxxxxxxxxxxxxxxxx'

        response = live.http.post(
            "/v1/chat/completions", content=endless(), headers={"content-type": "application/json"}
        )
        check_error(response, 413, "more than 1000 bytes")
        host, port = live.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\napi-key: {KEY}\r\n"
            slow.sendall(f"{head}content-type: application/json\r\ncontent-length: 500\r\n\r\n{{".encode())
            answer = slow.makefile("rb").read().decode()
        assert answer.startswith("HTTP/1.1 408")
        assert json.loads(answer.partition("\r\n\r\n")[2])["code"] == "request_timeout"
        assert live.chat().status_code == 200
