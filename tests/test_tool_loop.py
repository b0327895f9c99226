"""The loop of model and tools: rounds, refusals, what is not run, and the journal."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mistral_local
from mistral_local.errors import ToolError
from mistral_local.tasks.llm import LLM
from mistral_local.tasks.outputs import Answer, ToolCall, Usage
from mistral_local.tools.dispatch import ToolResult
from mistral_local.tools.journal import Journal
from mistral_local.tools.loop import ToolLoop, ToolRun, chat_with_tools
from mistral_local.tools.registry import ToolRegistry
from mistral_local.tools.tool import tool

USER = [{"role": "user", "content": "What is 2 + 3?"}]
NO_USAGE = Usage(1, 1)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def calls(*arguments: dict[str, Any], name: str = "add", reason: Any = "tool_calls") -> Answer:
    made = [ToolCall(f"callid{index:03}", name, json.dumps(values)) for index, values in enumerate(arguments)]
    return Answer("", reason, NO_USAGE, tuple(made))


def words(text: str) -> Answer:
    return Answer(text, "stop", NO_USAGE)


class Script:
    """A model that gives these answers, and keeps what it was sent."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = iter(answers)
        self.sent: list[list[dict[str, Any]]] = []
        self.tools: list[dict[str, Any]] = []

    def __call__(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Answer:
        self.sent.append(messages)
        self.tools = tools
        return next(self._answers)


def run(script: Script, *answers: Answer, **how: Any) -> ToolRun:
    return chat_with_tools(script, USER, [add], **how)


def test_calls_are_run_and_the_model_is_asked_again() -> None:
    script = Script(calls({"a": 2, "b": 3}, {"a": 1, "b": 1}), words("5"))
    result = run(script)
    assert (result.text, result.finish_reason) == ("5", "stop")
    assert result.messages == [
        *USER,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "callid000", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}},
                {"id": "callid001", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 1}'}},
            ],
        },
        {"role": "tool", "name": "add", "tool_call_id": "callid000", "content": "5"},
        {"role": "tool", "name": "add", "tool_call_id": "callid001", "content": "2"},
        {"role": "assistant", "content": "5"},
    ]
    assert script.sent == [USER, result.messages[:-1]]
    assert script.tools == [tool(add).definition()]
    assert len(USER) == 1, "the caller's messages are not changed"


def test_the_loop_ends_after_max_rounds_and_leaves_the_last_calls_alone() -> None:
    ran: list[int] = []

    def count() -> int:
        ran.append(1)
        return len(ran)

    script = Script(*[calls({}, name="count") for _ in range(3)])
    result = chat_with_tools(script, USER, [count], max_rounds=3)
    assert (result.finish_reason, len(ran), len(script.sent)) == ("max_rounds", 2, 3)
    with pytest.raises(ToolError, match="max_rounds: expected more than 0"):
        chat_with_tools(script, USER, [count], max_rounds=0)


@pytest.mark.parametrize("reason", ["length", "aborted"])
def test_calls_of_an_answer_that_was_cut_are_not_run(reason: Any) -> None:
    result = run(Script(calls({"a": 1, "b": 1}, reason=reason)))
    assert (result.finish_reason, result.results) == (reason, [])


def test_a_hook_sees_every_call_and_can_refuse_it() -> None:
    seen: list[str] = []

    def approve(call: ToolCall) -> str | None:
        seen.append(call.arguments)
        return "the user does not want that" if '"a": 1' in call.arguments else None

    results: list[ToolResult] = []
    script = Script(calls({"a": 1, "b": 1}, {"a": 2, "b": 2}), words("done"))
    run(script, approve=approve, on_result=results.append)
    assert seen == ['{"a": 1, "b": 1}', '{"a": 2, "b": 2}']
    assert [(result.content, result.is_error) for result in results] == [
        ("the user does not want that", True),
        ("4", False),
    ]


def test_nobody_is_asked_about_a_call_that_cannot_be_made() -> None:
    seen: list[str] = []
    script = Script(calls({}, name="nope"), calls({"a": "x"}), calls({"a": 1, "b": 2}), words("3"))
    run(script, approve=lambda call: seen.append(call.arguments))
    assert seen == ['{"a": 1, "b": 2}']


def test_errors_are_content_and_the_loop_goes_on() -> None:
    result = run(Script(calls({"a": "x", "b": 1}), calls({}, name="nope"), words("sorry")))
    assert [message["content"] for message in result.messages if message["role"] == "tool"] == [
        "error: the arguments do not fit: a: 'x' is not of type 'integer'",
        "error: there is no tool nope; there are: add",
    ]
    assert result.text == "sorry"


def test_the_loop_on_an_event_loop_is_the_same() -> None:
    script = Script(calls({"a": 2, "b": 3}), words("5"))
    expected = run(Script(calls({"a": 2, "b": 3}), words("5")))

    async def complete(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Answer:
        return script(messages, tools)

    async def approve(call: ToolCall) -> None:
        return None

    loop = ToolLoop(tools=ToolRegistry([add]), approve=approve)
    result = asyncio.run(loop.run_async(complete, USER))
    assert (result.messages, result.text) == (expected.messages, expected.text)


def test_the_loop_runs_inside_a_running_event_loop() -> None:
    async def main() -> ToolRun:
        return run(Script(calls({"a": 2, "b": 3}), words("5")))  # as in a notebook

    assert asyncio.run(main()).text == "5"


def test_a_journal_is_saved_loaded_and_replayed(tmp_path: Path) -> None:
    result = run(Script(calls({"a": 2, "b": 3}), words("5")), options={"seed": 7})
    result.journal.save(tmp_path / "run.json")
    journal = Journal.load(tmp_path / "run.json")
    assert journal == result.journal
    assert journal.options == {"seed": 7}

    ran: list[int] = []

    @tool(name="add")
    def add_again(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append(1)
        return a + b

    for replays_tools in (True, False):
        replay = journal.replay()
        loop = ToolLoop(tools=ToolRegistry([add_again]), dispatch=replay.dispatch if replays_tools else None)
        again = loop.run(replay.complete, journal.messages)
        assert (again.messages, again.text) == (result.messages, result.text)
    assert len(ran) == 1


def test_a_replay_that_leaves_the_journal_says_so(tmp_path: Path) -> None:
    journal = run(Script(calls({"a": 2, "b": 3}), words("5"))).journal

    def differs(a: int, b: int) -> int:
        return a - b

    replay = journal.replay()
    with pytest.raises(ToolError, match="other messages than were answered then"):
        ToolLoop(tools=ToolRegistry([tool(name="add")(differs)])).run(replay.complete, journal.messages)
    replay = journal.replay()
    with pytest.raises(ToolError, match="other calls than were made then"):
        ToolLoop(tools=ToolRegistry([add]), dispatch=replay.dispatch).run(Script(calls({"a": 9, "b": 9})), USER)
    (tmp_path / "broken.json").write_text('{"format": 9}')
    with pytest.raises(ToolError, match=r"broken.json: no journal of a run with tools: format 9"):
        Journal.load(tmp_path / "broken.json")


def test_reasoning_stays_in_the_conversation() -> None:
    thinking = replace(calls({"a": 2, "b": 3}), reasoning="I should add.")
    result = run(Script(thinking, words("5")))
    assert result.messages[1]["content"] == [{"type": "thinking", "thinking": "I should add."}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    return mistral_local.load(num_threads=1)


def test_the_demo_model_runs_a_tool_and_answers_with_what_it_returned(llm: LLM) -> None:
    codes: list[str] = []

    @tool(description="Execute Python to solve problems. Always print output to stdout.")
    def exec_python(code: str) -> str:
        codes.append(code)
        return "0 1 1 2 3 5 8 13 21 34"

    messages = [{"role": "user", "content": "What are the first 50 Fibonacci numbers?"}]
    result = llm.run_tools(messages, [exec_python], max_tokens=300)
    assert codes, "the tool was called"
    compile(codes[0], "code", "exec")
    assert result.finish_reason == "stop"
    assert isinstance(result.journal.options["seed"], int)
    assert [message["role"] for message in result.messages] == ["user", "assistant", "tool", "assistant"]


def test_a_run_is_repeated_by_the_seed_of_its_journal(llm: LLM) -> None:
    messages = [{"role": "user", "content": "What is 12 + 30?"}]
    how: dict[str, Any] = {
        "tool_choice": "required",
        "temperature": 1.5,
        "top_p": 1.0,
        "max_tokens": 60,
        "max_rounds": 3,
    }
    first = llm.run_tools(messages, [add], **how)
    again = llm.run_tools(messages, [add], **how, seed=first.journal.options["seed"])
    assert again.messages == first.messages, "the ids of the calls too"
    assert llm.run_tools(messages, [add], **how).messages != first.messages


def test_a_result_that_would_fill_the_context_is_cut(llm: LLM) -> None:
    def shout() -> str:
        """Shout."""
        return "7" * 100_000

    run = llm.run_tools(USER, [shout], tool_choice="required", max_tokens=50, max_rounds=2)
    assert run.results[0].content.endswith("[cut: 100000 characters in all]")


def test_a_call_that_was_asked_for_is_asked_for_once(llm: LLM) -> None:
    messages = [{"role": "user", "content": "Hello! What can you do?"}]
    result = llm.run_tools(messages, [add], tool_choice="required", max_rounds=3, max_tokens=100, seed=1)
    assert [item.call.name for item in result.results][:1] == ["add"]
    assert result.finish_reason != "max_rounds"


def test_the_demo_model_calls_exec_python_where_it_helps_and_only_there(llm: LLM) -> None:
    from mistral_local.tools.exec_python import make_exec_python

    tools = [make_exec_python().definition()]

    def ask(question: str) -> Answer:
        return llm.chat([{"role": "user", "content": question}], tools=tools, max_tokens=300)

    numbers = ask("What are the first 50 Fibonacci numbers?")
    assert numbers.finish_reason == "tool_calls"
    assert [call.name for call in numbers.tool_calls] == ["exec_python"]
    compile(json.loads(numbers.tool_calls[0].arguments)["code"], "code", "exec")
    haiku = ask("Write a haiku about San Francisco.")
    assert (haiku.finish_reason, haiku.tool_calls) == ("stop", ())
    assert haiku.text
