"""The JSON object in an answer in words."""

import pytest

import mistral_local
import mistral_local.errors
from mistral_local.errors import AnswerError
from mistral_local.tasks.json_answer import json_member
from mistral_local.tasks.outputs import Answer, Usage


@pytest.mark.parametrize(
    "text",
    [
        '{"code": "print(1)"}',
        ' \n{"other": 1, "code": "print(1)"}\n',
        'Here it is:\n```json\n{"code": "print(1)"}\n```\nIt prints 1.',
        'Here: {"code": "print(1)"} - done',
        'First {"x": {"y": 1}} and {braces} then {"code": "print(1)"}',
        '{"code": "print(1)"} {"code": "other"}',
    ],
)
def test_the_member_is_found_wherever_the_object_stands(text: str) -> None:
    assert json_member(text, "code") == "print(1)"


def test_line_breaks_in_a_string_are_taken_as_they_are() -> None:
    assert json_member('{"code": "a\nb"}', "code") == "a\nb"


@pytest.mark.parametrize("text", ["", "print(1)", "{", '{"code"', "[1]", '{"other": 1}', "{" * 5000, '"code"'])
def test_an_answer_without_it_is_an_error_that_holds_the_answer(text: str) -> None:
    with pytest.raises(AnswerError, match='no JSON object with "code"') as caught:
        json_member(text, "code")
    assert caught.value.text == text


def test_asking_sends_the_prompt_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = mistral_local.load(num_threads=1)
    seen = []

    def chat(messages, **options):  # type: ignore[no-untyped-def]
        seen.append((messages, options))
        return Answer('{"code": "print(1)"}', "stop", Usage(1, 1))

    monkeypatch.setattr(llm, "chat", chat)
    assert llm.ask_json("Print 1.", max_tokens=9) == "print(1)"
    assert seen == [
        (
            [
                {
                    "role": "system",
                    "content": 'You are a Python programmer.\nReturn Python code as a JSON object with a single "code" property.',
                },
                {"role": "user", "content": "Print 1."},
            ],
            {"stream": False, "response_format": {"type": "json_object"}, "max_tokens": 9},
        )
    ]


def test_the_demo_model_is_held_to_json() -> None:
    llm = mistral_local.load(num_threads=1)
    with pytest.raises(mistral_local.errors.RequestError, match="unknown option wrong"):
        llm.ask_json("x", wrong=1)
    schema = {"type": "object", "properties": {"code": {"type": "string", "maxLength": 20}}, "required": ["code"]}
    response_format = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema, "strict": True}}
    code = llm.ask_json("Write a script to print 1.", response_format=response_format, temperature=1.0, seed=1)
    assert isinstance(code, str)
