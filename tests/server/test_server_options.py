"""Every option of a chat request, and what the hosted API says of it."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jsonschema import validate
from live import TOOL, USER, Live, running

SAFE = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)
"""As the seed documents print it."""

SAMPLED: dict[str, Any] = {"temperature": 1.2, "top_p": 1.0, "max_tokens": 16}
NAMED = {"type": "function", "function": {"name": "get_weather"}}

# fmt: off
OPTIONS = [
    "temperature", "top_p", "max_tokens", "stop", "random_seed", "metadata", "response_format", "tools", "tool_choice",
    "presence_penalty", "frequency_penalty", "min_tokens", "repetition_penalty", "top_k", "logprobs", "top_logprobs",
    "prompt_logprobs", "top_prompt_logprobs", "n", "prediction", "parallel_tool_calls", "reasoning_effort", "prompt_mode",
    "guardrails", "prompt_cache_key", "service_tier", "safe_prompt", "stream", "stream_options", "seed",
    "max_completion_tokens", "logit_bias", "user", "functions", "function_call", "modalities", "audio", "store",
    "verbosity", "web_search_options",
]
# fmt: on
"""What the clients of Mistral and OpenAI can send beside model and messages."""


def choices(live: Live, **body: Any) -> list[Any]:
    answer = live.chat(**body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["choices"])


def test_null_is_as_if_not_given_for_every_option(live: Live) -> None:
    assert choices(live, **dict.fromkeys(set(OPTIONS) - {"temperature", "max_tokens"})) == choices(live)
    assert live.post("/v1/chat/completions", messages=USER, **dict.fromkeys(OPTIONS)).status_code == 200


def test_safe_prompt_is_the_exact_text(live: Live) -> None:
    safe, written = (
        live.chat(**how).json()
        for how in ({"safe_prompt": True}, {"messages": [{"role": "system", "content": SAFE}, *USER]})
    )
    assert (safe["choices"], safe["usage"]) == (written["choices"], written["usage"])


@pytest.fixture(scope="module")
def exact() -> Iterator[Live]:
    """In bf16 the rounding of a row may depend on the rows beside it, and decide between tokens that are nearly as likely."""
    with running(engine={"dtype": "float32"}) as server:
        yield server


@pytest.mark.parametrize("n", [1, 3])
def test_a_seed_gives_the_same_texts_under_load(exact: Live, n: int) -> None:
    live = exact
    alone = choices(live, **SAMPLED, random_seed=7, n=n)
    with ThreadPoolExecutor(8) as pool:
        seeds = [7, 1, 7, None, 7, 2, None, 7]
        answers = list(pool.map(lambda seed: choices(live, **SAMPLED, random_seed=seed, n=n), seeds))
    assert all(answer == alone for answer, seed in zip(answers, seeds, strict=True) if seed == 7)


def test_n_counts_the_prompt_once_and_the_answers_together(live: Live) -> None:
    one = live.chat(ignore_eos=True, max_tokens=6).json()["usage"]
    three = live.chat(ignore_eos=True, max_tokens=6, n=3).json()
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"] == {
        "prompt_tokens": one["prompt_tokens"],
        "completion_tokens": 18,
        "total_tokens": one["prompt_tokens"] + 18,
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [("presence_penalty", 2.0), ("frequency_penalty", 2.0), ("repetition_penalty", 2.0), ("min_tokens", 60)],
)
def test_penalties_and_min_tokens_change_the_answer(live: Live, option: str, value: float) -> None:
    how = {**SAMPLED, "max_tokens": 60, "seed": 3, "ignore_eos": option != "min_tokens"}
    plain, changed = (live.chat(**how, **more).json() for more in ({}, {option: value}))
    assert changed["choices"] != plain["choices"]
    if option == "min_tokens":
        assert changed["usage"]["completion_tokens"] == 60


@pytest.mark.parametrize(("option", "value"), [("top_k", 1), ("top_p", 1e-6), ("min_p", 1.0)])
def test_cuts_that_leave_one_token_are_greedy(live: Live, option: str, value: float) -> None:
    assert choices(live, temperature=1.9, **{option: value}) == choices(live, temperature=0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "parallel", "num_calls"),
    [
        ("any", None, None), ("any", False, 1), ("required", False, 1), (NAMED, False, 1), (NAMED, True, None),
        ("none", None, 0),
    ],
)  # fmt: skip
def test_tool_choice_decides_whether_there_are_calls(
    live: Live, choice: Any, parallel: bool | None, num_calls: int | None, stream: bool
) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
    body = {"messages": question, "tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": parallel}
    response = live.chat(**body, max_tokens=300, stream=stream)
    if stream:
        chunks = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n")[:-2]]
        reason = chunks[-1]["choices"][0]["finish_reason"]
        calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    else:
        (answer,) = response.json()["choices"]
        reason, calls = answer["finish_reason"], answer["message"]["tool_calls"] or []
    assert (reason == "tool_calls") == bool(calls)
    assert len(calls) == num_calls if num_calls is not None else calls
    for call in calls:
        assert re.fullmatch("[a-zA-Z0-9]{9}", call["id"])
        assert isinstance(call["function"]["arguments"], str)
        validate(json.loads(call["function"]["arguments"]), TOOL["function"]["parameters"])  # type: ignore[index]


SCHEMA = {
    "$defs": {"size": {"enum": ["small", "large"]}},
    "type": "object",
    "properties": {
        "size": {"$ref": "#/$defs/size"},
        "note": {"anyOf": [{"const": "none"}, {"type": "null"}]},
        "count": {"type": "integer", "minimum": 2, "maximum": 4},
    },
    "required": ["size", "note", "count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_bounded_schema_is_kept_and_ends(live: Live, strict: bool | None) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": strict}}
    (answer,) = choices(live, response_format=form, max_tokens=100)
    assert answer["finish_reason"] == "stop"
    validate(json.loads(answer["message"]["content"]), SCHEMA)


def test_the_other_formats_are_text_and_an_object(live: Live) -> None:
    assert choices(live, response_format={"type": "text"}) == choices(live)
    (answer,) = choices(live, response_format={"type": "json_object"}, max_tokens=300, frequency_penalty=0.5)
    assert isinstance(json.loads(answer["message"]["content"]), dict) or answer["finish_reason"] == "length"


def test_an_answer_that_a_limit_cuts_says_so(live: Live) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    (answer,) = choices(live, response_format=form, max_tokens=3)
    assert answer["finish_reason"] == "length"
    (call,) = choices(live, tools=[TOOL], tool_choice="any", max_tokens=3)
    assert call["finish_reason"] == "length"
    assert not call["message"]["tool_calls"]


def test_the_prefix_is_part_of_the_content_streamed_and_not(live: Live) -> None:
    messages = [*USER, {"role": "assistant", "content": "Well, ", "prefix": True}]
    (answer,) = choices(live, messages=messages)
    assert answer["message"]["content"].startswith("Well, ")
    raw = live.chat(messages=messages, stream=True).text
    chunks = [json.loads(line.removeprefix("data: ")) for line in raw.split("\n\n")[:-2]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == answer["message"]["content"]


def test_without_max_tokens_the_model_ends_its_answer(live: Live) -> None:
    answer = live.post("/v1/chat/completions", messages=USER, temperature=0).json()["choices"][0]
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"reasoning_effort": "none"}, (200, 400)),
        ({"reasoning_effort": "high"}, (200, 400)),
        ({"prompt_mode": "reasoning"}, (422,)),
        ({"prediction": {"type": "content", "content": "I am"}}, (200,)),
        ({"metadata": {"a": "b"}, "prompt_cache_key": "k", "service_tier": "auto", "user": "u"}, (200,)),
        ({"tools": [], "parallel_tool_calls": False}, (200,)),
        ({"stop": []}, (200,)),
    ],
    ids=str,
)
def test_what_need_not_be_served_is_taken_or_refused(live: Live, fields: dict[str, Any], status: tuple[int]) -> None:
    assert live.chat(**fields).status_code in status
