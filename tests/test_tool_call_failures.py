"""The failures of tool calls that other runtimes have had, one test each, in every chunking of the tokens."""

import json

import pytest
from all_tokenizers import ARRAY_FORM, NAMED_FORM, WITH_CALLS, load_tokenizer, spelled, text
from answers import Read, events_of, read

from mistral_local.errors import RequestError
from mistral_local.tasks.chat import chat_request, encode_chat
from mistral_local.tasks.outputs import BrokenToolCall, ToolCall, ToolCallDelta, ToolCallDone
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.call_ids import is_usable

# Small files stand for both kinds of tokenizer where each test runs in many chunkings.
SOME_ARRAY = ["mistral_instruct_tokenizer_240323.model.v3", "tekken v7"]


@pytest.fixture(params=WITH_CALLS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.param)


@pytest.fixture(params=SOME_ARRAY)
def array_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.param)


@pytest.fixture(params=NAMED_FORM)
def named_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.param)


def written(tokenizer: Tokenizer, *calls: tuple[str, str]) -> str:
    """Calls as a model with this tokenizer writes them."""
    if int(tokenizer.version[1:]) >= 11:
        return "".join(f"<TOOL_CALLS>{name}<ARGS>{arguments}" for name, arguments in calls)
    items = ", ".join(f'{{"name": "{name}", "arguments": {arguments}}}' for name, arguments in calls)
    return f"<TOOL_CALLS>[{items}]"


def test_1_the_marker_is_seen_although_it_is_no_text(tokenizer: Tokenizer) -> None:
    assert read(tokenizer, written(tokenizer, ("f", '{"a": 1}'))) == Read(calls=(("f", '{"a": 1}'),))


def test_2_the_marker_does_not_end_the_answer(tokenizer: Tokenizer) -> None:
    parts = "Let me see." + written(tokenizer, ("f", "{}"))
    assert read(tokenizer, parts) == Read("Let me see.", calls=(("f", "{}"),))


def test_3_the_name_ends_where_the_arguments_begin_wherever_the_pieces_are_cut(named_tokenizer: Tokenizer) -> None:
    parts = '<TOOL_CALLS>get_weather<ARGS>{"city": "Oslo"}'
    assert read(named_tokenizer, parts).calls == (("get_weather", '{"city": "Oslo"}'),)


def test_4_all_parallel_calls_are_found(tokenizer: Tokenizer) -> None:
    calls = (("f", '{"a": 1}'), ("g_2", '{"b": [{"c": 2}]}'), ("f", "{}"))
    assert read(tokenizer, written(tokenizer, *calls)) == Read(calls=calls)


def test_5_text_after_the_calls_is_text_and_a_second_marker_begins_more_calls(tokenizer: Tokenizer) -> None:
    one, two = written(tokenizer, ("f", "{}")), written(tokenizer, ("g", '{"a": 2}'))
    assert read(tokenizer, f"{one}\nDone.") == Read("Done.", calls=(("f", "{}"),))
    assert read(tokenizer, f"{one}\n{two}  ") == Read(calls=(("f", "{}"), ("g", '{"a": 2}')))
    assert read(tokenizer, f"{one} and {two}!") == Read("and !", calls=(("f", "{}"), ("g", '{"a": 2}')))


def test_6_single_quotes_are_no_json_and_stay_text_as_they_were_written(tokenizer: Tokenizer) -> None:
    parts = written(tokenizer, ("f", "{'a': 'it}', 'b': True}"))
    result = read(tokenizer, parts)
    assert not result.calls
    assert result.broken == ((parts.replace("<TOOL_CALLS>", "[TOOL_CALLS]").replace("<ARGS>", "[ARGS]"), "malformed"),)


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": 7, "b": -1.50, "c": null, "d": true, "e": 1e5}',
        r'{"a": "}]{[", "b": "\"}", "c": "\\", "d": {"e": {"f": [[], {}]}}}',
        '{"a": 123456789012345678901234567890}',
    ],
)
def test_7_numbers_null_and_braces_in_strings_arrive_as_they_were_written(
    array_tokenizer: Tokenizer, named_tokenizer: Tokenizer, arguments: str
) -> None:
    for tokenizer in (array_tokenizer, named_tokenizer):
        assert read(tokenizer, written(tokenizer, ("f", arguments))).calls == (("f", arguments),)


def test_8_a_call_that_a_limit_cut_is_reported_as_cut_and_is_no_call(tokenizer: Tokenizer) -> None:
    whole = written(tokenizer, ("f", '{"a": "x"}'), ("rm", '{"path": "/tmp/a"}'))
    cut = whole[: whole.index("/tmp")]
    result = read(tokenizer, cut, is_cut=True)
    assert result.calls == (("f", '{"a": "x"}'),)
    ((broken, reason),) = result.broken
    assert reason == "cut"
    assert broken.endswith('"path": "')
    # Without a limit the same is a model that stopped too early: no call either.
    assert [reason for _, reason in read(tokenizer, cut).broken] == ["malformed"]


def test_8_arguments_that_have_not_begun_are_missing_if_cut(named_tokenizer: Tokenizer) -> None:
    for parts in ("<TOOL_CALLS>", "<TOOL_CALLS>delete", "<TOOL_CALLS>delete_all<ARGS>", "<TOOL_CALLS>f<ARGS>{"):
        result = read(named_tokenizer, parts, is_cut=True)
        assert (result.calls, [reason for _, reason in result.broken]) == ((), ["cut"])


@pytest.mark.parametrize(
    ("parts", "form"),
    [
        ('<TOOL_CALLS>[{"name": "f", "arguments": {"a": 1}}]', "array"),
        ('<TOOL_CALLS>{"name": "f", "arguments": {"a": 1}}', "object"),
        ('<TOOL_CALLS> [ {"arguments": {"a": 1}, "name": "f"} ] ', "other order"),
        ('<TOOL_CALLS>[{"name": "f", "arguments": "{\\"a\\": 1}"}]', "arguments in a string"),
        ('<TOOL_CALLS>f<ARGS>{"a": 1}', "name"),
        ('<TOOL_CALLS>f{"a": 1}', "bare name"),
        ('<TOOL_CALLS>f<CALL_ID>abcDEF123<ARGS>{"a": 1}', "with id"),
        ('<TOOL_CALLS> f <CALL_ID> x <ARGS> \n{"a": 1}\n', "with spaces"),
    ],
)
def test_9_every_form_is_read_whatever_the_version(named_tokenizer: Tokenizer, parts: str, form: str) -> None:
    assert read(named_tokenizer, parts) == Read(calls=(("f", '{"a": 1}'),)), form


def test_10_nothing_of_the_envelope_leaks_into_the_text(tokenizer: Tokenizer) -> None:
    result = read(tokenizer, " " + written(tokenizer, ("f", '{"a": 1}')) + " ")
    assert result.text.strip() == ""
    assert result.broken == ()


def test_11_ids_that_go_out_are_taken_back_and_foreign_ones_are_mapped(tokenizer: Tokenizer) -> None:
    (done,) = [
        event
        for event in events_of(tokenizer, spelled(tokenizer, written(tokenizer, ("f", "{}"))))
        if isinstance(event, ToolCallDone)
    ]
    for call_id in (done.call.id, "call_0123456789abcdefghijklmn", "call_1", "toolu_01A", "é", "12345678", "a" * 10):
        messages = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [ToolCall(call_id, "f", "{}").as_message_part()]},
            {"role": "tool", "name": "f", "tool_call_id": call_id, "content": "1"},
        ]
        chat = chat_request(messages, version=tokenizer.version)
        assert encode_chat(tokenizer, chat)
        inner = chat.request.messages[1].tool_calls[0].id
        assert is_usable(inner)
        assert inner == chat.request.messages[2].tool_call_id
        assert chat.call_ids.outer(inner) == call_id
        assert messages[2]["tool_call_id"] == call_id


def test_11_an_id_that_the_model_wrote_is_kept_unless_it_is_taken(named_tokenizer: Tokenizer) -> None:
    tokens = spelled(named_tokenizer, "<TOOL_CALLS>f<CALL_ID>abcDEF123<ARGS>{}")
    for known, is_kept in (((), True), (("abcDEF123",), False)):
        (done,) = [e for e in events_of(named_tokenizer, tokens, known_ids=known) if isinstance(e, ToolCallDone)]
        assert (done.call.id == "abcDEF123") == is_kept


def test_12_the_marker_in_letters_is_text(tokenizer: Tokenizer) -> None:
    typed = '[TOOL_CALLS][{"name": "f", "arguments": {}}] [TOOL_CALLS]f[ARGS]{} [THINK]'
    assert read(tokenizer, typed) == Read(typed)
    messages = [{"role": "user", "content": typed}]
    tokens = encode_chat(tokenizer, chat_request(messages, version=tokenizer.version))
    assert tokenizer.control_id("[TOOL_CALLS]") not in tokens


@pytest.mark.parametrize("name", ["tekken v13", "tekken v15"])
def test_13_a_call_inside_an_open_reasoning_is_a_call(name: str) -> None:
    tokenizer = load_tokenizer(name)
    assert read(tokenizer, "<THINK>I need f.<TOOL_CALLS>f<ARGS>{}") == Read("", "I need f.", (("f", "{}"),))
    assert read(tokenizer, "<THINK>So.</THINK>Well: <TOOL_CALLS>f<ARGS>{}") == Read("Well: ", "So.", (("f", "{}"),))
    assert read(tokenizer, "<TOOL_CALLS>f<ARGS>{}<THINK>And now") == Read("", "And now", (("f", "{}"),))


def test_14_a_function_that_was_never_offered_is_reported_by_its_name(tokenizer: Tokenizer) -> None:
    assert read(tokenizer, written(tokenizer, ("no_such_tool", "{}"))).calls == (("no_such_tool", "{}"),)


def test_15_missing_and_empty_arguments_are_none(named_tokenizer: Tokenizer, array_tokenizer: Tokenizer) -> None:
    for arguments in ("", " ", '""', "null", "{}"):
        assert read(named_tokenizer, f"<TOOL_CALLS>f<ARGS>{arguments}").calls == (("f", "{}"),)
    for item in ('{"name": "f"}', '{"name": "f", "arguments": ""}', '{"name": "f", "arguments": null}'):
        assert read(array_tokenizer, f"<TOOL_CALLS>[{item}]").calls == (("f", "{}"),)


def test_16_pieces_of_a_call_come_while_it_is_written_and_join_to_it(named_tokenizer: Tokenizer) -> None:
    arguments = json.dumps({"code": "print(1)\n" * 5})
    tokens = spelled(named_tokenizer, f"<TOOL_CALLS>exec_python<ARGS>{arguments}")
    events = events_of(named_tokenizer, tokens)  # checks that the pieces are the arguments
    assert len([event for event in events if isinstance(event, ToolCallDelta)]) > 10


def test_17_a_character_of_several_tokens_in_the_arguments_stays_whole(tokenizer: Tokenizer) -> None:
    arguments = '{"city": "Köln 🙂👩‍👩‍👧 你好"}'
    assert read(tokenizer, written(tokenizer, ("f", arguments))).calls == (("f", arguments),)


@pytest.mark.parametrize(
    "parts",
    [
        "<TOOL_CALLS>I cannot do that.",
        "<TOOL_CALLS>[1, 2]",
        "<TOOL_CALLS>[]",
        '<TOOL_CALLS>[{"name": 1, "arguments": {}}]',
        '<TOOL_CALLS>[{"name": "two words", "arguments": {}}]',
        '<TOOL_CALLS>[{"arguments": {}}]',
        '<TOOL_CALLS>[{"name": "f", "arguments": [1]}]',
        "<TOOL_CALLS>",
    ],
)
def test_what_is_no_call_is_kept_as_it_was_written(array_tokenizer: Tokenizer, parts: str) -> None:
    result = read(array_tokenizer, f"Hm.{parts}")
    assert (result.text, result.calls) == ("Hm.", ())
    assert result.broken == ((parts.replace("<TOOL_CALLS>", "[TOOL_CALLS]"), "malformed"),)


@pytest.mark.parametrize(
    "parts",
    ["f<ARGS>[1]", "f<ARGS>{} {", "<ARGS>{}", "f<ARGS><ARGS>{}", "a b<ARGS>{}", "f<ARGS>{,}", "f<ARGS>x", "f"],
)
def test_what_is_no_named_call_is_kept_as_it_was_written(named_tokenizer: Tokenizer, parts: str) -> None:
    result = read(named_tokenizer, f"<TOOL_CALLS>{parts}")
    if parts == "f<ARGS>{} {":
        assert result == Read("{", calls=(("f", "{}"),))
        return
    assert result == Read(broken=(("[TOOL_CALLS]" + parts.replace("<ARGS>", "[ARGS]"), "malformed"),))


@pytest.mark.parametrize(
    "value",
    ["1" * 5000, "NaN", "-Infinity", r'"\ud800"', "[" * 5000 + "]" * 5000],
    ids=["digits", "nan", "infinity", "surrogate", "deep"],
)
def test_values_that_no_json_can_hold_make_no_call(value: str) -> None:
    for name in ("tekken v7", "tekken v13"):
        tokenizer = load_tokenizer(name)
        parts = written(tokenizer, ("f", f'{{"a": {value}}}'))
        events = events_of(tokenizer, spelled(tokenizer, parts))
        assert not [event for event in events if isinstance(event, ToolCallDone)]
        assert [event.reason for event in events if isinstance(event, BrokenToolCall)] == ["malformed"]


def test_a_call_that_is_complete_before_a_broken_one_stands(tokenizer: Tokenizer) -> None:
    good = ("f", '{"a": 1}')
    result = read(tokenizer, written(tokenizer, good, ("g", "{oops}"), ("h", "{}")))
    if tokenizer.version in ("v11", "v13", "v15"):
        assert result.calls == (good, ("h", "{}"))
    else:
        assert result.calls == (good,)  # what follows in a broken array cannot be told apart
    assert "{oops}" in result.all_text


def test_arguments_that_are_no_json_are_refused_on_the_way_in() -> None:
    call = ToolCall("abcdefghi", "f", "{'a': 1}").as_message_part()
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]
    with pytest.raises(RequestError, match=r"messages.1.tool_calls.0.function.arguments: no JSON"):
        chat_request(messages)


def test_a_stop_string_is_not_looked_for_in_arguments_or_reasoning() -> None:
    tokenizer = load_tokenizer("tekken v13")
    parts = '<THINK>STOP</THINK>a<TOOL_CALLS>f<ARGS>{"a": "STOP"}'
    assert read(tokenizer, parts, stop=("STOP",)) == Read("a", "STOP", (("f", '{"a": "STOP"}'),))
    assert read(tokenizer, "one STOP two<TOOL_CALLS>f<ARGS>{}", stop=("STOP",)) == Read("one ")
    assert read(tokenizer, "one ST<TOOL_CALLS>f<ARGS>{}OP", stop=("STOP",)) == Read("one STOP", calls=(("f", "{}"),))


def test_an_answer_may_begin_inside_a_reasoning() -> None:
    tokenizer = load_tokenizer("tekken v13")
    tokens = spelled(tokenizer, "so.</THINK>Yes.")
    texts = [(type(e).__name__, e.text) for e in events_of(tokenizer, tokens, is_thinking=True)]
    assert texts[0][0] == "ReasoningDelta"
    assert texts[-1][0] == "TextDelta"
    assert "".join(text for _, text in texts) == "so.Yes."


def test_the_array_form_is_what_mistral_common_reads() -> None:
    from mistral_common.experimental.tools import _decode_tool_calls_v2_up_to_v7

    for name in ARRAY_FORM:
        tokenizer = load_tokenizer(name)
        items = [{"name": "f", "arguments": {"a": [1, "é"]}}, {"name": "g", "arguments": {}}]
        content = json.dumps(items, ensure_ascii=False)
        theirs = _decode_tool_calls_v2_up_to_v7(text(tokenizer, content), tokenizer._base)
        ours = read(tokenizer, f"<TOOL_CALLS>{content}").calls
        assert [(n, json.loads(a)) for n, a in ours] == [
            (call.function.name, json.loads(call.function.arguments)) for call in theirs
        ]
