"""Tools in mistral-chat: calls are shown, approved, run and answered; the answer alone is on stdout."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cli_fake
import pytest

from mistral_local.cli import entry
from mistral_local.cli.approval import REFUSED, Approval
from mistral_local.cli.console import Console
from mistral_local.cli.conversation import Conversation
from mistral_local.cli.session import Session
from mistral_local.cli.slash_commands import run_command
from mistral_local.cli.toolbox import Toolbox, open_toolbox
from mistral_local.errors import SandboxUnavailableError, UsageError
from mistral_local.tasks.options import GenerationOptions
from mistral_local.tasks.outputs import ToolCall
from mistral_local.tools.registry import ToolRegistry

TOOLS = '''
from typing import Annotated
from dataclasses import dataclass
from mistral_local import tool

@dataclass
class Unused:
    x: int

@tool
def weather(city: Annotated[str, "name of a city"]) -> str:
    """Tell the weather.

    It is always fine.
    """
    return f"fine in {city}\\n" * 3

@tool(name="second")
def other() -> str:
    """Another."""
    return ""
'''
NOTE = "tekken.json chosen over tokenizer.model.v3\n"


@pytest.fixture
def tools_file(tmp_path: Path) -> str:
    (tmp_path / "my_tools.py").write_text(TOOLS)
    return str(tmp_path / "my_tools.py")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    monkeypatch.setitem(sys.modules, "mistral_local.tasks.llm", cli_fake.fake_module())
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    cli_fake.LOADED.clear()
    on_terminate = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> tuple[int, str, str]:
        with open(os.devnull) as file:
            monkeypatch.setattr(sys, "stdin", file)
            code = entry.run_command(entry.CHAT, arguments)
        return code, *capfd.readouterr()

    yield run
    signal.signal(signal.SIGTERM, on_terminate)


def weather(city: str) -> str:
    """Tell the weather."""
    return f"fine in {city}"


def make_session(*tools: Callable[..., str], approve: Callable[[ToolCall], str | None] | None = None) -> Session:
    console = Console(out=io.StringIO(), err=io.StringIO())
    registry = ToolRegistry(tools or [weather])
    return Session(
        cli_fake.FakeLLM(None, {}),
        console,
        GenerationOptions(),
        conversation=Conversation(),
        toolbox=Toolbox(registry.definitions(), registry),
        approve=approve,
    )


def said(session: Session) -> str:
    return session.console._err.getvalue()


def test_a_call_is_run_and_the_answer_is_on_stdout(run: Callable[..., tuple[int, str, str]], tools_file: str) -> None:
    code, out, err = run("-i", "-p", "call", "--tools", tools_file, "--approve", "auto")
    assert code == 0
    assert out == "Let me see.\nyou said: fine in Köln\nfine in Köln\nfine in Köln\n"
    assert err == NOTE + 'weather({"city": "Köln"})\n| fine in Köln\n| fine in Köln\n| fine in Köln\n'
    requests = cli_fake.LOADED[-1].requests
    assert [tool["function"]["name"] for tool in requests[0][1]] == ["weather", "second"]
    assert [message["role"] for message in requests[1][0]] == ["user", "assistant", "tool"]


def test_json_is_one_object_with_the_results(run: Callable[..., tuple[int, str, str]], tools_file: str) -> None:
    code, out, _ = run("-i", "-p", "call", "--tools", tools_file, "--approve", "auto", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["text"].startswith("you said: fine in Köln")
    assert answer["finish_reason"] == "stop"
    assert answer["tool_results"] == [
        {
            "name": "weather",
            "arguments": {"city": "Köln"},
            "content": "fine in Köln\nfine in Köln\nfine in Köln\n",
            "is_error": False,
        }
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-i", "--tools", "{file}"], "nobody is there to approve calls; --approve auto runs them without asking"),
        (["--tools", "{file}"], "--tools needs --instruct"),
        (["--python"], "--python needs --instruct"),
        (["-i", "--sandbox", "wasm"], "--sandbox and --sandbox_python need --python"),
        (["-i", "--sandbox_python", "/usr/bin/python3"], "--sandbox and --sandbox_python need --python"),
        (["-i", "--python", "--sandbox", "none"], "--sandbox: expected bubblewrap or wasm, got 'none'"),
        (["-i", "--tools", "none.py"], "cannot read none.py: no such file"),
        (["-i", "--tools", "{folder}/empty.py"], "has no tools"),
        (["-i", "--tools", "{folder}/broken.py"], "broken.py cannot be run: ZeroDivisionError: division by zero"),
        (["-i", "--tools", "{folder}/twice.py"], "two tools are called f"),
        (["-i", "--tools", "{folder}/t.json", "--python"], "--python cannot go with --tools FILE.json"),
        (["-i", "--approve", "never"], "--approve: expected ask or auto, got 'never'"),
    ],
)
def test_flags_that_cannot_be_are_refused_before_anything_is_loaded(
    run: Callable[..., tuple[int, str, str]], tools_file: str, tmp_path: Path, flags: list[str], message: str
) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("x = 1 / 0\n")
    twice = (
        "from mistral_local import tool\n@tool\ndef f() -> int: return 1\n@tool(name='f')\ndef g() -> int: return 2\n"
    )
    (tmp_path / "twice.py").write_text(twice)
    (tmp_path / "t.json").write_text('[{"type": "function", "function": {"name": "f"}}]')
    flags = [flag.format(file=tools_file, folder=tmp_path) for flag in flags]
    code, out, err = run("-p", "x", *flags)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not cli_fake.LOADED


def test_the_conversation_holds_the_calls_and_their_results() -> None:
    session = make_session()
    session.ask("call")
    assert [message["role"] for message in session.conversation.messages] == ["user", "assistant", "tool", "assistant"]
    session.ask("and now?")
    assert [message["role"] for message in session.conversation.messages][4:] == ["user", "assistant"]
    assert "not executed" not in said(session)
    session.conversation.undo()
    session.conversation.undo()
    assert session.conversation.messages == []


def test_a_refused_call_is_told_to_the_model_and_does_not_run() -> None:
    ran: list[str] = []

    def weather(city: str) -> str:
        ran.append(city)
        return city

    session = make_session(weather, approve=lambda call: REFUSED)
    turn = session.ask("call")
    assert ran == []
    assert turn.text == f"you said: {REFUSED}"


@pytest.mark.parametrize(
    ("typed", "answers", "num_questions"),
    [
        ("y\nn\n", [None, REFUSED], 2),
        ("what\nYES\n\nno\n", [None, REFUSED], 4),
        ("a\n", [None, None], 1),
        ("", [REFUSED, REFUSED], 2),
    ],
)
def test_the_person_is_asked_until_the_answer_is_clear(
    monkeypatch: pytest.MonkeyPatch, typed: str, answers: list[str | None], num_questions: int
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    console = Console(out=io.StringIO(), err=io.StringIO())
    approval = Approval(console, "ask", may_ask=True)
    call = ToolCall("abcdefghi", "rm", "{}")
    assert [approval(call), approval(call)] == answers
    assert console._err.getvalue().count("Run rm? [y]es, [n]o, [a]ll from now on: ") == num_questions


def test_an_answer_that_is_stopped_after_a_call_keeps_what_was_done() -> None:
    session = make_session()
    chat = session.model.chat

    def stop_second(messages, **how):  # type: ignore[no-untyped-def]
        return chat([{**messages[-1], "content": "silent"}] if messages[-1]["role"] == "tool" else messages, **how)

    session.model.chat = stop_second  # type: ignore[method-assign]
    session.ask("call")
    assert [message["role"] for message in session.conversation.messages] == ["user", "assistant", "tool"]
    session.model.chat = chat  # type: ignore[method-assign]
    session.ask("hello")
    assert session.conversation.messages[-1]["content"] == "you said: hello"


def test_tools_are_listed() -> None:
    session = make_session()
    run_command(session, "tools", "")
    assert said(session) == "  weather               Tell the weather.\n"
    session.toolbox = None
    run_command(session, "tools", "")
    assert said(session).endswith("no tools; --tools FILE.py and --python give some\n")


def test_fim_writes_what_is_missing_and_leaves_the_conversation() -> None:
    session = make_session()
    run_command(session, "fim", "def add(<FILL>return a + b")
    assert session.console._out.getvalue() == "you said: def add(...return a + b\n"
    assert session.conversation.messages == []
    for wrong in ("def add(", "<FILL>", ""):
        with pytest.raises(UsageError, match="write <FILL> where something is missing"):
            run_command(session, "fim", wrong)


def test_json_holds_the_next_answers_to_a_schema(tmp_path: Path) -> None:
    session = make_session()
    run_command(session, "json", "object")
    session.ask("hello")
    assert session.model.requests[-1][2].json_schema == {"type": "object"}
    (tmp_path / "schema.json").write_text('{"type": "array"}')
    run_command(session, "json", str(tmp_path / "schema.json"))
    assert session.options.json_schema == {"type": "array"}
    run_command(session, "json", '{"type": "string"}')
    for wrong in ("{", "none.json", str(tmp_path)):
        with pytest.raises(UsageError):
            run_command(session, "json", wrong)
    assert session.options.json_schema == {"type": "string"}
    run_command(session, "json", "off")
    assert session.options.json_schema is None
    assert said(session).splitlines()[-2:] == ['answers are JSON: {"type": "string"}', "answers are free"]
    with pytest.raises(UsageError, match="unknown setting json_schema"):
        run_command(session, "set", "json_schema {}")


def test_python_without_a_sandbox_is_refused_and_runs_nothing(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mistral_local.tools import sandbox

    def unavailable(self: object, code: str, **limits: object) -> None:
        raise SandboxUnavailableError("no sandbox: bubblewrap is not installed")

    monkeypatch.setattr(sandbox.Sandbox, "run", unavailable)
    code, out, err = run("-i", "-p", "call", "--python", "--approve", "auto")
    assert (code, out) == (1, "")
    assert err == "Error: no sandbox: bubblewrap is not installed\n"
    assert not cli_fake.LOADED


@pytest.mark.parametrize("backend", ["bubblewrap", "wasm"])
def test_the_chosen_interpreter_of_the_sandbox_must_be_there(
    run: Callable[..., tuple[int, str, str]], backend: str
) -> None:
    flags = ["-i", "-p", "call", "--approve", "auto", "--python", "--sandbox", backend, "--sandbox_python", "/none"]
    code, out, err = run(*flags)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert "/none does not exist" in err or "bubblewrap >= 0.8 not found" in err
    assert not cli_fake.LOADED


def test_a_block_of_code_is_shown_as_one(tmp_path: Path) -> None:
    def run_code(code: str) -> str:
        return "\n".join(map(str, range(30)))

    session = make_session(run_code)
    from mistral_local.cli.writers import StreamWriter
    from mistral_local.tools.dispatch import ToolResult

    call = ToolCall("abcdefghi", "run_code", json.dumps({"code": "a = 1\nprint(a)"}))
    writer = StreamWriter(session.console, runs_tools=True)
    writer.tool_call(call)
    writer.tool_result(ToolResult(call, "\n".join(map(str, range(30)))))
    lines = said(session).splitlines()
    assert lines[:4] == ["run_code", "  code:", "    a = 1", "    print(a)"]
    assert lines[4:] == [*(f"| {number}" for number in range(20)), "| ... 10 more lines"]


def test_without_flags_there_is_no_toolbox(tools_file: str) -> None:
    assert open_toolbox(None, python=False) is None
    toolbox = open_toolbox(tools_file, python=False)
    assert toolbox is not None
    assert [definition["function"]["name"] for definition in toolbox.definitions] == ["weather", "second"]
