"""Forms of an answer through the front door, on the bundled demo checkpoint."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import BaseModel, Field

import mistral_local
from mistral_local.errors import GrammarError, RequestError
from mistral_local.tasks.llm import LLM

USER = [{"role": "user", "content": "What is 17 + 25?"}]
SQUARE = {
    "type": "function",
    "function": {
        "name": "square",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 999}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
}


class Sum(BaseModel):
    a: int = Field(ge=0, le=99)
    b: int = Field(ge=0, le=99)
    is_even: bool


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    threads = torch.get_num_threads()
    yield mistral_local.load(max_batch_size=3)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("how", [{"response_format": Sum}, {"json_schema": Sum}])
def test_an_answer_is_an_instance_of_a_model(llm: LLM, how: dict[str, Any]) -> None:
    answer = llm.chat(USER, max_tokens=60, **how)
    assert answer.finish_reason == "stop"
    Sum.model_validate_json(answer.text)


def test_a_json_object_is_one_streamed_or_not(llm: LLM) -> None:
    options: dict[str, Any] = {
        "response_format": {"type": "json_object"},
        "max_tokens": 60,
        "temperature": 1.0,
        "seed": 3,
    }
    answer = llm.chat(USER, **options)
    streamed = "".join(getattr(event, "text", "") for event in llm.chat(USER, stream=True, **options))
    assert streamed == answer.text
    assert answer.text.startswith("{")
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.text), dict)


@pytest.mark.parametrize("choice", ["any", "required", {"type": "function", "function": {"name": "square"}}])
def test_a_call_that_is_asked_for_comes(llm: LLM, choice: Any) -> None:
    answer = llm.chat(USER, tools=[SQUARE], tool_choice=choice, parallel_tool_calls=False, max_tokens=60)
    assert (answer.finish_reason, answer.text) == ("tool_calls", "")
    [call] = answer.tool_calls
    assert call.name == "square"
    assert list(json.loads(call.arguments)) == ["x"]


def test_a_call_that_is_ruled_out_does_not_come(llm: LLM) -> None:
    for seed in range(4):
        answer = llm.chat(USER, tools=[SQUARE], tool_choice="none", max_tokens=30, temperature=1.5, seed=seed)
        assert answer.tool_calls == ()
        assert "[TOOL_CALLS]" not in answer.raw_text


def test_every_task_takes_a_form(llm: LLM) -> None:
    four = {"regex": "[a-z]{4}", "temperature": 1.0, "seed": 1}
    texts = [
        llm.chat(USER, **four).text,
        llm.complete("x = ", **four).text,
        llm.fim("def f(", "): pass", **four).text,
        *(answer.text for answer in llm.complete_batch(["a", "b"], **four)),
    ]
    assert all(re.fullmatch("[a-z]{4}", text) for text in texts)
    assert llm.complete("x", lark='start: "y" /[0-9]/{2}\n', max_tokens=9).text[:1] == "y"


def test_answers_to_one_prompt_each_keep_their_own_place(llm: LLM) -> None:
    answers = llm.chat_choices(USER, n=3, json_schema=Sum, temperature=3.0, top_p=1.0, seed=5)
    for answer in answers:
        Sum.model_validate_json(answer.text)
    assert len({answer.text for answer in answers}) > 1


def test_an_answer_goes_on_behind_its_prefix(llm: LLM) -> None:
    prefix = '{"a": 7, '
    messages = [*USER, {"role": "assistant", "content": prefix, "prefix": True}]
    answer = llm.chat(messages, response_format=Sum, max_tokens=60)
    assert answer.text.startswith(prefix)
    assert Sum.model_validate_json(answer.text).a == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"regex": "a", "lark": 'start: "a"'}, "regex and lark: an answer can have one form only"),
        ({"regex": 3}, "regex: expected a text, got 3"),
        ({"regex": ""}, "empty pattern"),
        ({"regex": "(?!x)"}, "look-around"),
        ({"lark": "nonsense"}, "refused"),
        ({"json_schema": {"not": {}}}, "Unimplemented keys"),
        ({"json_schema": 3}, "expected a JSON schema"),
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "one form only"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"tool_choice": "required"}, "only be asked for with tools"),
    ],
)
def test_a_form_that_cannot_be_is_refused_before_anything_runs(llm: LLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        llm.chat(USER, **options)
    assert not llm._engine.has_work


def test_a_refused_schema_is_a_grammar_error(llm: LLM) -> None:
    with pytest.raises(GrammarError, match="uniqueItems"):
        llm.chat(USER, json_schema={"type": "array", "uniqueItems": True})
