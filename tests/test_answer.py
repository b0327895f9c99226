"""From tokens to events: text without loss, stop strings, the same on every road."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from all_tokenizers import ALL, load_tokenizer, spelled, text
from answers import events_of, summary
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy

import mistral_local
import mistral_local.errors
from mistral_local.engine.async_engine import AsyncEngine
from mistral_local.tasks.answer import collect
from mistral_local.tasks.answer_parser import AnswerParser, ends_in_reasoning
from mistral_local.tasks.async_answer import start_answer
from mistral_local.tasks.llm import LLM
from mistral_local.tasks.outputs import (
    Answer,
    BrokenToolCall,
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDone,
    Usage,
)
from mistral_local.tokenizer.tokenizer import Tokenizer

USER = [{"role": "user", "content": "What are the first 50 Fibonacci numbers?"}]


@pytest.fixture(params=ALL)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.param)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    return mistral_local.load(max_batch_size=3, num_threads=1)


def test_a_stop_string_ends_the_text_before_it(tokenizer: Tokenizer) -> None:
    events = events_of(tokenizer, text(tokenizer, "One. Two. Three."), stop=(" Two",))
    assert summary(events).text == "One."


def test_no_event_holds_half_a_character(tokenizer: Tokenizer) -> None:
    events = events_of(tokenizer, text(tokenizer, "🙂👩‍👩‍👧" * 3))
    assert all(isinstance(event, TextDelta) and "�" not in event.text for event in events)
    assert summary(events).text == "🙂👩‍👩‍👧" * 3


def test_an_answer_that_continues_a_text_joins_it_as_mistral_common_decodes_both(tokenizer: Tokenizer) -> None:
    whole = text(tokenizer, "This is a test, nothing  more.")
    base = tokenizer._base
    for cut in range(1, len(whole)):
        parser = AnswerParser(tokenizer, continues_text=True)
        events = [event for token in whole[cut:] for event in parser.push(token)] + parser.finish(is_cut=False)
        start = base.decode(whole[:cut], special_token_policy=SpecialTokenPolicy.IGNORE)
        assert start + summary(events).text == "This is a test, nothing  more."


def test_tasks_without_calls_have_text_only() -> None:
    tokenizer = load_tokenizer("tekken v13")
    parser = AnswerParser(tokenizer)
    tokens = spelled(tokenizer, "<THINK>a</THINK>b<TOOL_CALLS>f<ARGS>{}")
    events = [event for token in tokens for event in parser.push(token)] + parser.finish(is_cut=False)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "abf{}"
    assert all(isinstance(event, TextDelta) for event in events)


def test_a_prompt_that_leaves_its_reasoning_open_is_seen() -> None:
    tokenizer = load_tokenizer("tekken v13")
    assert ends_in_reasoning(tokenizer, spelled(tokenizer, "a<THINK>b"))
    assert not ends_in_reasoning(tokenizer, spelled(tokenizer, "a<THINK>b</THINK>c"))
    assert not ends_in_reasoning(tokenizer, [*spelled(tokenizer, "a<THINK>b"), tokenizer.eos_id])
    assert not ends_in_reasoning(load_tokenizer("tokenizer.model.v1"), [5, 6])


def test_an_answer_is_all_its_events_and_a_message_to_go_on_with() -> None:
    call, broken = ToolCall("abcdefghi", "f", "{}"), BrokenToolCall("[TOOL_CALLS]g", "cut")
    usage = Usage(3, 4)
    events: list[Event] = [
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        TextDelta("a"),
        TextDelta("b"),
        ToolCallDone(0, call),
        broken,
        Finished("length", usage, "raw"),
    ]
    answer = collect(iter(events))
    assert answer == Answer("ab[TOOL_CALLS]g", "length", usage, (call,), "raw", "hm", (broken,))
    assert answer.message() == {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ab[TOOL_CALLS]g"}],
        "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert Answer("x", "stop", usage).message() == {"role": "assistant", "content": "x"}


def without_times(events: list[Event]) -> list[Any]:
    """Events without what differs from run to run: times and ids."""
    result: list[Any] = []
    for event in events:
        match event:
            case Finished(reason, usage, raw):
                result.append((reason, usage.prompt_tokens, usage.completion_tokens, raw))
            case ToolCallDone(index, call):
                result.append((index, call.name, call.arguments))
            case TextDelta() | ReasoningDelta():
                result.append(event)
    return result


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 200},
        {"max_tokens": 5},
        {"max_tokens": 60, "tools": None, "stop": ("a",)},
        {"max_tokens": 30, "temperature": 1.0, "seed": 7, "tools": None},
    ],
)
def test_the_event_loop_gives_the_events_of_the_plain_road(llm: LLM, options: dict[str, Any]) -> None:
    from mistral_local.cli.showcase import EXEC_PYTHON

    request = {"tools": [EXEC_PYTHON], **options}
    expected = list(llm.chat(USER, stream=True, **request))

    async def main() -> list[Event]:
        async with AsyncEngine(llm._engine) as engine:
            return [event async for event in await start_answer(engine, llm.prepare_chat(USER, **request))]

    assert without_times(asyncio.run(main())) == without_times(expected)
    assert not llm._engine.has_work


def test_logprobs_come_with_each_token_and_spell_the_text(llm: LLM) -> None:
    answer = llm.chat(USER, max_tokens=8, logprobs=True, top_logprobs=2)
    assert len(answer.logprobs) == answer.usage.completion_tokens == 8
    assert b"".join(score.bytes for score in answer.logprobs).decode() == answer.text
    for score in answer.logprobs:
        assert score.logprob <= 0
        assert len(score.top) == 2
        assert (score.top[0].token_id, score.top[0].logprob) == (score.token_id, score.logprob)  # greedy
    assert llm.chat(USER, max_tokens=8).logprobs == ()


def test_an_answer_goes_on_with_the_beginning_that_it_was_given(llm: LLM) -> None:
    beginning = {"role": "assistant", "content": "Fibonacci numbers are", "prefix": True}
    answer = llm.chat([*USER, beginning], max_tokens=10)
    assert answer.text.startswith("Fibonacci numbers are")
    assert len(answer.text) > len("Fibonacci numbers are")
    assert answer.usage.completion_tokens <= 10


def test_several_choices_are_drawn_each_by_itself_and_repeat_with_a_seed(llm: LLM) -> None:
    options: dict[str, Any] = {"temperature": 4.0, "top_p": 1.0, "max_tokens": 12, "seed": 3}
    first = [answer.text for answer in llm.chat_choices(USER, n=3, **options)]
    assert len(set(first)) > 1
    assert [answer.text for answer in llm.chat_choices(USER, n=3, **options)] == first
    assert llm.chat(USER, **options).text == first[0]
    with pytest.raises(mistral_local.errors.RequestError, match="n: expected 1 to 128, got 0"):
        llm.chat_choices(USER, n=0)
