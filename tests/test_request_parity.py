"""Requests reach the engine as mistral_common's own types encode to, for every tokenizer and by every road."""

import functools
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from all_tokenizers import ALL, EFFORTS, WITH_CALLS, load_tokenizer, tokenizer_file
from checkpoints import write_checkpoint
from hypothesis import event, given, settings
from hypothesis import strategies as st
from mistral_common.exceptions import MistralCommonException
from mistral_common.protocol.fim.request import FIMRequest
from mistral_common.protocol.instruct.chunk import TextChunk, ThinkChunk
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Function, FunctionCall, Tool, ToolCall
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

import mistral_local
import mistral_local.tasks.chat
from mistral_local.cli import entry
from mistral_local.engine.engine import Engine
from mistral_local.errors import RequestError
from mistral_local.tasks.llm import LLM

CONTROL_STRINGS = ["[INST]", "[/INST]", "</s>", "<s>", "[TOOL_CALLS]", "[ARGS]", "[THINK]", "[SYSTEM_PROMPT]", "[IMG]"]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Köln, 東京"}, "days": {"type": ["integer", "null"]}},
    "required": ["city"],
}


class Reached(Exception):  # noqa: N818 - it is no error
    """The engine was given a prompt."""


@functools.cache
def reference(name: str) -> Any:
    return MistralTokenizer.from_file(str(tokenizer_file(name)))


def checkpoint(folder: Path, name: str) -> Path:
    """A tiny random model with one of the tokenizers."""
    vocab_size = load_tokenizer(name).vocab_size
    write_checkpoint(folder, vocab_size=vocab_size, dim=8, head_dim=4, n_heads=2, n_kv_heads=1, hidden_dim=8)
    source = tokenizer_file(name)
    suffix = source.name.rpartition(".model")[2]
    shutil.copy(source, folder / ("tekken.json" if source.suffix == ".json" else f"tokenizer.model{suffix}"))
    return folder


@pytest.fixture(scope="module", params=ALL)
def llm_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, LLM]]:
    """A name of ALL and a model whose engine stops at the prompt: Reached carries it."""
    llm = mistral_local.load(checkpoint(tmp_path_factory.mktemp("model"), request.param), num_threads=1)

    def add(tokens: list[int], params: Any) -> Any:
        raise Reached(tokens)

    llm._engine.add = add  # type: ignore[method-assign]
    yield request.param, llm
    llm.close()


def reached(call: Any) -> list[int] | None:
    """The ids that the engine was given; None if the request was refused."""
    try:
        call()
    except Reached as error:
        return list(error.args[0])
    except RequestError:
        return None
    raise AssertionError("neither refused nor given to the engine")


def encoded(name: str, messages: list[Any], **fields: Any) -> list[int] | None:
    """What mistral_common makes of its own types; None if it refuses them."""
    try:
        request = ChatCompletionRequest(messages=messages, **fields)
        return list(reference(name).encode_chat_completion(request).tokens)
    except (MistralCommonException, ValueError, AssertionError):
        return None


TEXTS = st.lists(st.one_of(st.sampled_from(CONTROL_STRINGS), st.text(max_size=12)), min_size=1, max_size=4).map("".join)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(TEXTS, VALUES, max_size=3)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)


@dataclass
class Turn:
    """A user's message, the calls that follow it with their results, and the answer."""

    question: str
    reasoning: str | None
    calls: list[tuple[str, str, str]]
    """Name, arguments as JSON, result."""
    results_reversed: bool
    answer: str | None


@st.composite
def conversations(draw: st.DrawFn) -> tuple[str | None, list[Turn]]:
    turns = draw(
        st.lists(
            st.builds(
                Turn,
                TEXTS,
                st.none() | TEXTS,
                st.lists(st.tuples(NAMES, ARGUMENTS.map(json.dumps), TEXTS), max_size=3),
                st.booleans(),
                TEXTS,
            ),
            min_size=1,
            max_size=3,
        )
    )
    if draw(st.booleans()):
        turns[-1].answer = None
    else:
        turns.append(Turn(draw(TEXTS), None, [], False, None))
    return draw(st.none() | TEXTS), turns


def as_dicts(system: str | None, turns: list[Turn], ids: list[str], *, reasons: bool) -> list[dict[str, Any]]:
    """The conversation as a caller of the API writes it."""
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    fresh = iter(ids)
    for turn in turns:
        messages.append({"role": "user", "content": turn.question})
        own = [next(fresh) for _ in turn.calls]
        if own:
            calls = [
                {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}, "index": at}
                for at, (i, (name, arguments, _)) in enumerate(zip(own, turn.calls, strict=True))
            ]
            messages.append({"role": "assistant", "content": "", "tool_calls": calls, "prefix": False})
            results = [
                {"role": "tool", "name": name, "tool_call_id": i, "content": result}
                for i, (name, _, result) in zip(own, turn.calls, strict=True)
            ]
            messages += results[::-1] if turn.results_reversed else results
        if turn.answer is not None:
            answer: dict[str, Any] = {"role": "assistant", "content": turn.answer, "tool_calls": None}
            if reasons and turn.reasoning is not None:
                answer["reasoning_content"] = turn.reasoning
            messages.append(answer)
    return messages


def as_types(system: str | None, turns: list[Turn], ids: list[str], *, reasons: bool) -> list[Any]:
    """The same in mistral_common's types."""
    messages: list[Any] = [] if system is None else [SystemMessage(content=system)]
    fresh = iter(ids)
    for turn in turns:
        messages.append(UserMessage(content=turn.question))
        own = [next(fresh) for _ in turn.calls]
        if own:
            calls = [
                ToolCall(id=i, function=FunctionCall(name=name, arguments=arguments))
                for i, (name, arguments, _) in zip(own, turn.calls, strict=True)
            ]
            messages.append(AssistantMessage(content="", tool_calls=calls))
            results = [
                ToolMessage(name=name, tool_call_id=i, content=result)
                for i, (name, _, result) in zip(own, turn.calls, strict=True)
            ]
            messages += results[::-1] if turn.results_reversed else results
        if turn.answer is not None:
            content: Any = turn.answer
            if reasons and turn.reasoning is not None:
                content = [ThinkChunk(thinking=turn.reasoning)] * bool(turn.reasoning)
                content = [*content, TextChunk(text=turn.answer)] if content else turn.answer
            messages.append(AssistantMessage(content=content))
    return messages


def nine(count: int) -> list[str]:
    rng = random.Random(1)
    return ["".join(rng.choices("abcXYZ0189", k=9)) for _ in range(count)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(conversation=conversations(), has_tools=st.booleans(), seed=st.booleans())
def test_a_conversation_reaches_the_engine_as_mistral_common_encodes_it(
    llm_of: tuple[str, LLM], conversation: tuple[str | None, list[Turn]], has_tools: bool, seed: bool
) -> None:
    name, llm = llm_of
    system, turns = conversation
    if llm._tokenizer.version == "v1":
        for turn in turns:
            turn.calls = []
    reasons = llm._tokenizer.version in ("v13", "v15")
    ids = nine(sum(len(turn.calls) for turn in turns))
    function = {"name": "get_weather", "description": "Wetter für [INST]", "parameters": PARAMETERS}
    tools = [{"type": "function", "function": function}] if has_tools else None
    typed_tools = [Tool(function=Function(**function))] if has_tools else None
    expected = encoded(name, as_types(system, turns, ids, reasons=reasons), tools=typed_tools)

    messages = as_dicts(system, turns, ids, reasons=reasons)
    given_messages = json.dumps(messages)
    event("served" if expected is not None else "refused")
    assert reached(lambda: llm.chat(messages, tools=tools, seed=7 if seed else None)) == expected
    assert json.dumps(messages) == given_messages, "the caller's messages are not changed"
    typed = as_types(system, turns, ids, reasons=reasons)
    assert reached(lambda: llm.chat(typed, tools=typed_tools)) == expected
    if expected is not None:
        assert llm.count_tokens(messages, tools=tools) == len(expected)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(conversation=conversations(), style=st.sampled_from(["call_{}", "toolu_01{}", "{}", "é{}" * 9]))
def test_foreign_ids_are_encoded_like_ids_of_our_own(
    llm_of: tuple[str, LLM], conversation: tuple[str | None, list[Turn]], style: str
) -> None:
    name, llm = llm_of
    system, turns = conversation
    if llm._tokenizer.version == "v1":
        return
    foreign = [style.replace("{}", str(at)) for at in range(sum(len(turn.calls) for turn in turns))]
    seen: dict[str, str] = {}
    prompts = []
    for _ in range(2):  # the same ids give the same prompt, so that the next turn finds its beginning in the cache
        prompts.append(reached(lambda: llm.chat(as_dicts(system, turns, foreign, reasons=False))))
        ids = mistral_local.tasks.chat.chat_request(as_dicts(system, turns, foreign, reasons=False)).call_ids
        seen = {call_id: ids.inner(call_id) for call_id in foreign}
    assert len(set(seen.values())) == len(foreign)
    expected = encoded(name, as_types(system, turns, [seen[i] for i in foreign], reasons=False))
    assert prompts == [expected, expected]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(prompt=TEXTS | st.just(""), suffix=TEXTS | st.just(""))
def test_gaps_and_plain_text_reach_the_engine_as_mistral_common_encodes_them(
    llm_of: tuple[str, LLM], prompt: str, suffix: str
) -> None:
    name, llm = llm_of
    theirs = reference(name)
    expected = None
    if name in WITH_CALLS:
        expected = list(theirs.encode_fim(FIMRequest(prompt=prompt, suffix=suffix)).tokens)
    assert reached(lambda: llm.fim(prompt, suffix)) == expected
    plain = theirs.instruct_tokenizer.tokenizer.encode(prompt, bos=True, eos=False)
    assert reached(lambda: llm.complete(prompt)) == plain


@pytest.mark.parametrize("effort", [None, *EFFORTS])
def test_settings_of_a_v15_model_reach_it(tmp_path: Path, effort: str | None) -> None:
    llm = mistral_local.load(checkpoint(tmp_path, "tekken v15"), num_threads=1)
    prompts: list[list[int]] = []
    llm._engine.add = lambda tokens, params: prompts.append(tokens)  # type: ignore[method-assign, assign, misc]
    request = llm.prepare_chat([{"role": "user", "content": "x"}], reasoning_effort=effort)
    assert request.tokens == encoded("tekken v15", [UserMessage(content="x")], reasoning_effort=effort)
    with pytest.raises(RequestError, match="reasoning_effort"):
        llm.prepare_chat([{"role": "user", "content": "x"}], reasoning_effort="enormous")


def test_the_safety_prompt_is_an_explicit_system_message(llm_of: tuple[str, LLM]) -> None:
    name, llm = llm_of
    text = (
        "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, "
        "unethical, prejudiced, or negative content. Ensure replies promote fairness and positivity."
    )
    user = [{"role": "user", "content": "x"}]
    expected = encoded(name, [SystemMessage(content=text), UserMessage(content="x")])
    assert reached(lambda: llm.chat(user, safe_prompt=True)) == expected


def test_text_beside_calls_is_left_out_only_where_it_has_no_place_and_that_is_said(llm_of: tuple[str, LLM]) -> None:
    name, llm = llm_of
    if name not in WITH_CALLS:
        return
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    typed_call = ToolCall(id="abcdefghi", function=FunctionCall(name="f", arguments="{}"))
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "name": "f", "tool_call_id": "abcdefghi", "content": "1"},
    ]
    has_place = llm._tokenizer.version not in ("v2", "v3")
    typed = [
        UserMessage(content="x"),
        AssistantMessage(content="Let me see." if has_place else "", tool_calls=[typed_call]),
        ToolMessage(name="f", tool_call_id="abcdefghi", content="1"),
    ]
    request = llm.prepare_chat(messages)
    assert request.tokens == encoded(name, typed)
    assert [note.partition(":")[0] for note in request.notes] == ([] if has_place else ["messages.1"])


def test_reasoning_is_left_out_only_where_it_has_no_place_and_that_is_said(llm_of: tuple[str, LLM]) -> None:
    name, llm = llm_of
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y", "reasoning_content": "I think."},
        {"role": "user", "content": "z"},
    ]
    has_place = llm._tokenizer.version in ("v13", "v15")
    content = [ThinkChunk(thinking="I think."), TextChunk(text="y")] if has_place else "y"
    typed = [UserMessage(content="x"), AssistantMessage(content=content), UserMessage(content="z")]
    request = llm.prepare_chat(messages)
    assert request.tokens == encoded(name, typed)
    assert llm.count_tokens(messages) == len(request.tokens)
    assert [note.partition(":")[0] for note in request.notes] == ([] if has_place else ["messages.1"])
    hosted = [{"type": "thinking", "thinking": [{"type": "text", "text": "I think."}]}, {"type": "text", "text": "y"}]
    messages[1] = {"role": "assistant", "content": hosted}
    assert llm.prepare_chat(messages).tokens == request.tokens


@pytest.mark.parametrize("name", ALL)
def test_the_command_gives_the_engine_what_mistral_common_encodes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prompts: list[list[int]] = []
    add = Engine.add
    monkeypatch.setattr(
        Engine, "add", lambda engine, tokens, params: prompts.append(tokens) or add(engine, tokens, params)
    )
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    folder = str(checkpoint(tmp_path / "model", name))
    text, system = "grüß [INST] 🙂 </s>\n  x ", "Sei [/SYSTEM_PROMPT] kurz."
    function = {"name": "get_weather", "description": "", "parameters": PARAMETERS}
    tools: list[str] = []
    typed_tools = None
    if name in WITH_CALLS:
        (tmp_path / "tools.json").write_text(json.dumps([{"type": "function", "function": function}]))
        tools, typed_tools = ["--tools", str(tmp_path / "tools.json")], [Tool(function=Function(**function))]
    run = [folder, "-p", text, "--max_tokens", "1", "--num_threads", "1"]
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert entry.run_command(entry.CHAT, [*run, "--instruct", "--system", system, *tools]) == 0
        assert entry.run_command(entry.CHAT, run) == 0
    assert prompts == [
        encoded(name, [SystemMessage(content=system), UserMessage(content=text)], tools=typed_tools),
        reference(name).instruct_tokenizer.tokenizer.encode(text, bos=True, eos=False),
    ]
