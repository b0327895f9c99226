"""Chat over HTTP: the framing, the options, and that both roads give one answer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from live import TOOL, USER, Live, running

from mistral_local.kernels.native import reasons_against_native
from mistral_local.tasks.chat import SAFE_PROMPT


def events(live: Live, **body: Any) -> tuple[str, list[Any]]:
    """The raw stream and its chunks."""
    response = live.chat(stream=True, **body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    raw = response.text
    parts = raw.removesuffix("\n\n").split("\n\n")
    assert all(part.startswith("data: ") and "\n" not in part and "\r" not in part for part in parts)
    assert parts[-1] == "data: [DONE]"
    return raw, [json.loads(part.removeprefix("data: ")) for part in parts[:-1]]


def joined(chunks: list[Any], index: int = 0) -> tuple[str, list[Any], str | None]:
    """Text, calls and finish reason of one choice of a stream."""
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(reasons) == 1
    return text, calls, reasons[0]


def test_an_answer_has_what_every_client_requires(live: Live) -> None:
    answer = live.chat().json()
    assert answer["object"] == "chat.completion"
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    (choice,) = answer["choices"]
    assert choice["index"] == 0
    assert choice["finish_reason"] in ("stop", "length")
    assert choice["message"]["role"] == "assistant"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 3, "temperature": 1.0, "seed": 5},
        {"stop": ["o", "are"]},
        {"max_tokens": 0},
        {"tools": [TOOL], "tool_choice": "any", "max_tokens": 60},
        {"response_format": {"type": "json_object"}, "max_tokens": 40},
        {"messages": [*USER, {"role": "assistant", "content": "I am", "prefix": True}]},
    ],
    ids=json.dumps,
)
def test_a_stream_says_what_the_whole_answer_says(live: Live, body: dict[str, Any]) -> None:
    whole = live.chat(**body).json()
    _, chunks = events(live, **body)
    for choice in whole["choices"]:
        text, calls, reason = joined(chunks, choice["index"])
        assert text == choice["message"]["content"]
        assert reason == choice["finish_reason"]
        expected = choice["message"]["tool_calls"] or []
        assert [call["function"] for call in calls] == [call["function"] for call in expected]
        assert all({"id", "type", "function", "index"} <= set(call) for call in calls)
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["choices"] for chunk in chunks)
    for index in range(len(whole["choices"])):
        assert chunks[index]["choices"] == [
            {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        ]


def test_openai_clients_get_the_usage_in_a_chunk_of_its_own_if_they_ask(live: Live) -> None:
    _, chunks = events(live, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_max_tokens_0_gives_an_empty_answer_by_length(live: Live) -> None:
    answer = live.chat(max_tokens=0).json()
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["usage"]["prompt_tokens"] > 0


def test_max_tokens_above_the_context_ends_with_it(live: Live) -> None:
    answer = live.chat(max_tokens=10**12, ignore_eos=True).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 1024


def test_safe_prompt_is_the_published_system_message(live: Live) -> None:
    system = [{"role": "system", "content": SAFE_PROMPT}, *USER]
    plain, safe, written = (live.chat(**how).json() for how in ({}, {"safe_prompt": True}, {"messages": system}))
    assert safe["choices"] == written["choices"]
    assert safe["usage"] == written["usage"]
    assert safe["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


def test_the_developer_role_of_openai_is_a_system_message(live: Live) -> None:
    def says(role: str) -> Any:
        return live.chat(messages=[{"role": role, "content": "Be brief."}, *USER]).json()["usage"]["prompt_tokens"]

    assert says("developer") == says("system") > live.chat().json()["usage"]["prompt_tokens"]


@pytest.fixture
def exact() -> Iterator[Live]:
    """A server whose bits do not depend on which sequences happen to share a step."""
    if reasons := reasons_against_native(torch.device("cpu"), torch.bfloat16):
        pytest.skip(reasons[0])
    with running(engine={"deterministic": True}) as server:
        yield server


def test_both_names_of_the_seed_repeat_an_answer(exact: Live) -> None:
    how: dict[str, Any] = {"temperature": 1.5, "top_p": 1.0, "max_tokens": 20}
    first = exact.text(seed=11, **how)
    assert exact.text(random_seed=11, **how) == first
    assert exact.text(seed=12, **how) != first
    choices = [exact.chat(seed=11, n=3, **how).json()["choices"] for _ in range(2)]
    assert choices[0] == choices[1]
    assert choices[0][0]["message"]["content"] == first
    assert len({choice["message"]["content"] for choice in choices[0]}) > 1


def test_a_stop_string_is_cut_away_with_what_follows(live: Live) -> None:
    text = live.text()
    stop = text[3:6]
    answer = live.chat(stop=stop).json()["choices"][0]
    assert answer["message"]["content"] == text[: text.index(stop)]
    assert answer["finish_reason"] == "stop"


def test_the_answer_begins_with_the_prefix(live: Live) -> None:
    text = live.text(messages=[*USER, {"role": "assistant", "content": "Indeed, my", "prefix": True}])
    assert text.startswith("Indeed, my")
    assert len(text) > len("Indeed, my")


def test_logprobs_have_the_token_ids_that_mistralai_needs(live: Live) -> None:
    answer = live.chat(logprobs=True, top_logprobs=2).json()
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == answer["usage"]["completion_tokens"]
    for entry in content:
        assert set(entry) == {"token", "token_id", "logprob", "bytes", "top_logprobs"}
        assert len(entry["top_logprobs"]) == 2
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == live.text()
    _, chunks = events(live, logprobs=True, top_logprobs=2)
    streamed = [entry for chunk in chunks for entry in chunk["choices"][0].get("logprobs", {}).get("content", ())]
    assert streamed == content


@pytest.mark.parametrize("choice", ["any", "required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_was_asked_for_comes_and_fits_its_schema(live: Live, choice: Any) -> None:
    answer = live.chat(tools=[TOOL], tool_choice=choice, parallel_tool_calls=False, max_tokens=80).json()["choices"][0]
    assert answer["finish_reason"] == "tool_calls"
    (call,) = answer["message"]["tool_calls"]
    assert len(call["id"]) == 9
    assert call["type"] == "function"
    arguments = json.loads(call["function"]["arguments"])
    assert arguments["city"] in ("Paris", "Rome")
    assert isinstance(arguments["days"], int)


def test_a_tool_round_trip_takes_ids_of_other_services(live: Live) -> None:
    call = {"id": "call_abc", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_abc", "content": "sunny"},
    ]
    assert live.chat(messages=messages, tools=[TOOL]).status_code == 200


def test_a_schema_is_kept(live: Live) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["a", "b"]}, "count": {"type": "integer", "minimum": 3, "maximum": 5}},
        "required": ["name", "count"],
        "additionalProperties": False,
    }
    how = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = json.loads(live.text(response_format=how, max_tokens=60))
    assert answer["name"] in ("a", "b")
    assert 3 <= answer["count"] <= 5


def test_what_has_no_effect_is_accepted(live: Live) -> None:
    harmless = {"metadata": {"a": "b"}, "user": "u", "parallel_tool_calls": True, "service_tier": "auto", "tools": []}
    assert live.text() == live.text(**harmless) == live.text(model="mistral-large-latest")


def test_options_reach_the_sampler(live: Live) -> None:
    text = live.text()
    first = live.chat(logprobs=True).json()["choices"][0]["logprobs"]["content"][0]
    assert not live.text(logit_bias={str(first["token_id"]): -100.0}).startswith(first["token"])
    assert text.startswith(first["token"])
    assert live.text(frequency_penalty=2.0, repetition_penalty=1.8, max_tokens=60) != live.text(max_tokens=60)
    assert live.chat(min_tokens=40, max_tokens=40).json()["usage"]["completion_tokens"] == 40
    assert live.text(regex="(yes|no)") in ("yes", "no")
