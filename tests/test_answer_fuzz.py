"""Answers of random tokens: nothing fails, nothing is lost, and it does not matter how they arrive."""

import pytest
from all_tokenizers import load_tokenizer, spelled
from answers import events_of, streams, summary
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = [
    *("<TOOL_CALLS>", "<ARGS>", "<CALL_ID>", "<THINK>", "</THINK>", "{", "}", "[", "]", '"', ":", ",", "\\", " ", "\n"),
    *("f", "name", "é", "🙂", "abcDEF123", "null", "1.5", '{"a": 1}', '"name": "f"', '"arguments": {}', "STOP"),
    *('[{"name": "f", "arguments": {"b": "}"}}]', "<TOOL_CALLS>f<ARGS>{}", "<TOOL_CALLS>f<CALL_ID>abcDEF123<ARGS>{"),
]
SHOWN = {"<TOOL_CALLS>": "[TOOL_CALLS]", "<ARGS>": "[ARGS]", "<CALL_ID>": "[CALL_ID]", "<THINK>": "[THINK]"}


@pytest.mark.parametrize("name", ["tekken v13", "mistral_instruct_tokenizer_240323.model.v3"])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14), is_cut=st.booleans(), has_stop=st.booleans())
def test_random_answers_are_read_alike_and_without_loss(
    name: str, pieces: list[str], is_cut: bool, has_stop: bool
) -> None:
    tokenizer = load_tokenizer(name)
    if name != "tekken v13":
        pieces = [piece for piece in pieces if not any(word in piece for word in ("ARGS", "CALL_ID", "THINK"))]
    parts = "".join(pieces)
    stop = ("STOP",) if has_stop else ()
    results = [summary(events_of(tokenizer, tokens, is_cut=is_cut, stop=stop)) for tokens in streams(tokenizer, parts)]
    assert all(result == results[0] for result in results)

    result = results[0]
    raw = tokenizer.spell_out(spelled(tokenizer, parts))
    for broken, reason in result.broken:
        assert broken in raw
        assert is_cut or reason == "malformed"
    if "STOP" not in parts:
        given_out = result.text + result.reasoning + "".join(broken for broken, _ in result.broken)
        given_out += "".join(name + arguments for name, arguments in result.calls)
        for sign in ("é", "🙂", "1.5"):  # they are part of no envelope
            assert given_out.count(sign) == raw.count(sign) or "<CALL_ID>" in parts or '"name"' in parts
