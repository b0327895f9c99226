"""From tokens to events: text without loss, stop strings, and the function calls of every tokenizer version."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from mistral_local.demo.locate import demo_checkpoint
from mistral_local.tasks.answer import AnswerParser, collect
from mistral_local.tasks.outputs import Event, Finished, TextDelta, ToolCallDelta, Usage
from mistral_local.tokenizer.tokenizer import Tokenizer

PACKAGED = Path(str(files("mistral_common"))) / "data"
ARRAY_FILES = [
    "mistral_instruct_tokenizer_240323.model.v3",
    "mistral_instruct_tokenizer_241114.model.v7",
    "tekken_240911.json",
]


@pytest.fixture(scope="module", params=ARRAY_FILES)
def array_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(PACKAGED / request.param)


@pytest.fixture(scope="module")
def named_tokenizer() -> Tokenizer:
    """Version v13, from the bundled demo checkpoint."""
    return Tokenizer(demo_checkpoint() / "tekken.json")


def text(tokenizer: Tokenizer, content: str) -> list[int]:
    return tokenizer.encode_text(content)[1:]


def control(tokenizer: Tokenizer, name: str) -> list[int]:
    token_id = tokenizer.control_id(name)
    assert token_id is not None
    return [token_id]


def parse(tokenizer: Tokenizer, tokens: list[int], *stop: str, is_cut: bool = False) -> list[Event]:
    parser = AnswerParser(tokenizer, stop=stop, parses_tools=True)
    return [event for token in tokens for event in parser.push(token)] + parser.finish(is_cut=is_cut)


def whole(events: list[Event]) -> tuple[str, list[tuple[str, str]]]:
    answer = collect(iter([*events, Finished("stop", Usage(1, 1))]))
    return answer.text, [(call.name, call.arguments) for call in answer.tool_calls]


def test_an_array_of_calls_is_read(array_tokenizer: Tokenizer) -> None:
    calls = [{"name": "f", "arguments": {"a": '}]"é', "b": 1.5}}, {"name": "g_2", "arguments": {}}]
    tokens = control(array_tokenizer, "[TOOL_CALLS]") + text(array_tokenizer, json.dumps(calls))
    assert whole(parse(array_tokenizer, tokens)) == ("", [("f", '{"a": "}]\\"é", "b": 1.5}'), ("g_2", "{}")])


def test_text_before_a_call_stays_text(array_tokenizer: Tokenizer) -> None:
    tokens = text(array_tokenizer, "Let me see.") + control(array_tokenizer, "[TOOL_CALLS]")
    tokens += text(array_tokenizer, '[{"name": "f", "arguments": {}}]')
    assert whole(parse(array_tokenizer, tokens)) == ("Let me see.", [("f", "{}")])


def test_named_calls_in_parallel_are_read(named_tokenizer: Tokenizer) -> None:
    tokens = []
    for name, arguments in (("get_time", '{"city": "Oslo"}'), ("ping", "")):
        tokens += control(named_tokenizer, "[TOOL_CALLS]") + text(named_tokenizer, name)
        tokens += control(named_tokenizer, "[ARGS]") + text(named_tokenizer, arguments)
    assert whole(parse(named_tokenizer, tokens)) == ("", [("get_time", '{"city": "Oslo"}'), ("ping", "{}")])


def test_an_id_of_the_model_is_kept_and_a_missing_one_is_made(named_tokenizer: Tokenizer) -> None:
    ids = []
    for call_id in (control(named_tokenizer, "[CALL_ID]") + text(named_tokenizer, "abcDEF123"), []):
        tokens = control(named_tokenizer, "[TOOL_CALLS]") + text(named_tokenizer, "f") + call_id
        tokens += control(named_tokenizer, "[ARGS]") + text(named_tokenizer, "{}")
        (event,) = parse(named_tokenizer, tokens)
        assert isinstance(event, ToolCallDelta)
        ids.append(event.call.id)
    assert ids[0] == "abcDEF123"
    assert len(ids[1]) == 9
    assert ids[1].isalnum()


@pytest.mark.parametrize(
    "cut", ['[{"name": "f", "argum', "no json", '{"name": "f"}', '[{"name": 1, "arguments": {}}]', ""]
)
def test_a_call_that_cannot_be_read_is_given_out_as_the_text_it_is(array_tokenizer: Tokenizer, cut: str) -> None:
    tokens = text(array_tokenizer, "Hm.") + control(array_tokenizer, "[TOOL_CALLS]") + text(array_tokenizer, cut)
    assert whole(parse(array_tokenizer, tokens)) == (f"Hm.[TOOL_CALLS]{cut}", [])


def test_a_call_that_a_limit_cut_before_its_arguments_is_text(named_tokenizer: Tokenizer) -> None:
    tokens = control(named_tokenizer, "[TOOL_CALLS]") + text(named_tokenizer, "delete_all")
    tokens += control(named_tokenizer, "[ARGS]")
    assert whole(parse(named_tokenizer, tokens)) == ("", [("delete_all", "{}")])
    assert whole(parse(named_tokenizer, tokens, is_cut=True)) == ("[TOOL_CALLS]delete_all[ARGS]", [])
    complete = tokens + text(named_tokenizer, '{"a": 1}')
    assert whole(parse(named_tokenizer, complete, is_cut=True)) == ("", [("delete_all", '{"a": 1}')])


@pytest.mark.parametrize(
    "value",
    ["1" * 5000, "NaN", "-Infinity", r'"\ud800"', "[" * 20_000],
    ids=["digits", "nan", "infinity", "surrogate", "deep"],
)
def test_values_that_are_no_json_make_no_call(
    array_tokenizer: Tokenizer, named_tokenizer: Tokenizer, value: str
) -> None:
    arguments = f'{{"a": {value}}}'
    array = f'[{{"name": "f", "arguments": {arguments}}}]'
    tokens = control(array_tokenizer, "[TOOL_CALLS]") + text(array_tokenizer, array)
    assert whole(parse(array_tokenizer, tokens)) == (f"[TOOL_CALLS]{array}", [])
    tokens = control(named_tokenizer, "[TOOL_CALLS]") + text(named_tokenizer, "f")
    tokens += control(named_tokenizer, "[ARGS]") + text(named_tokenizer, arguments)
    assert whole(parse(named_tokenizer, tokens)) == (f"[TOOL_CALLS]f[ARGS]{arguments}", [])


def test_the_marker_as_text_is_text(array_tokenizer: Tokenizer) -> None:
    tokens = text(array_tokenizer, '[TOOL_CALLS][{"name": "f", "arguments": {}}]')
    assert whole(parse(array_tokenizer, tokens)) == ('[TOOL_CALLS][{"name": "f", "arguments": {}}]', [])


def test_a_stop_string_ends_the_text_before_it(array_tokenizer: Tokenizer) -> None:
    tokens = text(array_tokenizer, "One. Two. Three.")
    assert whole(parse(array_tokenizer, tokens, " Two")) == ("One.", [])


def test_no_event_holds_half_a_character(array_tokenizer: Tokenizer) -> None:
    events = parse(array_tokenizer, text(array_tokenizer, "🙂👩‍👩‍👧" * 3))
    assert all(isinstance(event, TextDelta) and "�" not in event.text for event in events)
    assert whole(events)[0] == "🙂👩‍👩‍👧" * 3
