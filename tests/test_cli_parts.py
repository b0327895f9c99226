"""The parts of mistral-chat by themselves: slash commands, conversation, settings, rendering."""

import doctest
import importlib
import io
import json
import shutil
import signal
import stat

import pytest
from cli_fake import FakeLLM
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory

from mistral_local.cli.console import Console, one_line
from mistral_local.cli.conversation import NOT_EXECUTED, Conversation, check_text
from mistral_local.cli.editor import CommandCompleter, open_history
from mistral_local.cli.interrupt import InterruptClock, StopRequest
from mistral_local.cli.loading_bar import LoadingBar
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.cli.multiline import is_open, unfenced
from mistral_local.cli.session import Session
from mistral_local.cli.slash_commands import changed_option, parse_command, run_command
from mistral_local.cli.toolbox import read_definitions
from mistral_local.errors import CheckpointError, RequestError, UsageError
from mistral_local.tasks.options import GenerationOptions
from mistral_local.tasks.outputs import ToolCall

CALL = ToolCall("abcdef123", "weather", '{"city": "Köln"}')


class Screen(io.StringIO):
    """A terminal to write to."""

    def isatty(self) -> bool:
        return True


def make_session(**options):
    console = Console(out=io.StringIO(), err=io.StringIO())
    options = GenerationOptions(**options)
    return Session(FakeLLM(None, {}), console, options, conversation=Conversation())


def said(session):
    """Return what was written to stderr so far."""
    return session.console._err.getvalue()


@pytest.mark.parametrize("module", ["nearest", "loading_bar", "multiline", "writers", "slash_commands"])
def test_examples_in_the_docstrings_hold(module):
    results = doctest.testmod(importlib.import_module(f"mistral_local.cli.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/help", ("help", "")),
        ("  /set  temperature 0.3 ", ("set", "temperature 0.3")),
        ("/?", ("?", "")),
        ("/system be\nbrief", ("system", "be\nbrief")),
        ("/usr/bin is a folder", None),
        ("/ is the root", None),
        ("what is /help", None),
        ("", None),
    ],
)
def test_slash_commands_are_told_from_messages(text, command):
    assert parse_command(text) == command


def test_unknown_command_names_the_nearest():
    with pytest.raises(UsageError, match=r"unknown command /rest; did you mean /reset\? \(/help lists them\)"):
        run_command(make_session(), "rest", "")
    with pytest.raises(UsageError, match="/undo takes no argument, got 'all'"):
        run_command(make_session(), "undo", "all")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.3", 0.3),
        ("max_tokens", "12", 12),
        ("max_tokens", "none", None),
        ("seed", "-1", -1),
        ("stop", "END '\n\n'", ("END", "\n\n")),
        ("stop", "none", ()),
    ],
)
def test_settings_change(name, text, value):
    assert getattr(changed_option(GenerationOptions(max_tokens=5, stop=("x",)), name, text), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temprature", "1"),
        ("max_tokens", "0"),
        ("max_tokens", "x"),
        ("temperature", "inf"),
        ("stop", "'"),
        ("stop", "''"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, text):
    session = make_session()
    before = session.options
    with pytest.raises((UsageError, RequestError)):
        run_command(session, "set", f"{name} {text}")
    assert session.options == before


def test_set_shows_all_settings_or_the_changed_one():
    session = make_session(temperature=0.7)
    run_command(session, "set", "")
    assert said(session).splitlines()[:2] == ["max_tokens = None", "min_tokens = 0"]
    assert "temperature = 0.7" in said(session)
    with pytest.raises(UsageError, match="unknown setting logit_bias"):
        run_command(session, "set", "logit_bias 1")
    run_command(session, "set", "top-p 0.5")
    assert said(session).splitlines()[-1] == "top_p = 0.5"
    with pytest.raises(UsageError, match="/set seed needs a value"):
        run_command(session, "set", "seed")


def test_undo_removes_the_last_exchange_with_the_tool_messages_before_it():
    conversation = Conversation("be brief")
    conversation.keep(conversation.asking("one"), "1", [CALL])
    kept = list(conversation.messages)
    conversation.keep(conversation.asking("two"), "2", [])
    assert [message["role"] for message in conversation.messages[-3:]] == ["tool", "user", "assistant"]
    assert conversation.messages[-3]["content"] == NOT_EXECUTED
    assert conversation.undo() == "two"
    assert conversation.messages == kept
    assert conversation.undo() == "one"
    assert conversation.messages == [{"role": "system", "content": "be brief"}]
    with pytest.raises(UsageError, match="there is no message yet"):
        conversation.undo()


def test_retry_replaces_the_last_answer():
    session = make_session()
    session.ask("hello")
    run_command(session, "retry", "")
    assert session.conversation.messages == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "you said: hello"},
    ]
    assert session.model.requests[0] == session.model.requests[1]


def test_system_prompt_is_shown_changed_and_removed():
    session = make_session()
    session.ask("hello")
    run_command(session, "system", "be brief")
    run_command(session, "system", "be quick")
    assert [message["role"] for message in session.conversation.messages] == ["system", "user", "assistant"]
    assert session.conversation.system == "be quick"
    run_command(session, "reset", "")
    assert session.conversation.messages == [{"role": "system", "content": "be quick"}]
    run_command(session, "system", "-")
    assert session.conversation.messages == []
    assert said(session).splitlines()[-1] == "system: (none)"


def test_saved_conversation_loads_again(tmp_path):
    session = make_session()
    session.ask("grüß dich 🙂")
    path = tmp_path / "talk.json"
    run_command(session, "save", str(path))
    messages = session.conversation.messages
    assert json.loads(path.read_text()) == {"messages": messages}
    run_command(session, "reset", "")
    run_command(session, "load", str(path))
    assert session.conversation.messages == messages
    run_command(session, "save", str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["talk.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        "5",
        '{"messages": {}}',
        '[{"role": "king", "content": "x"}]',
        '[{"role": "user"}]',
        "[5]",
        '[{"role": "user", "content": "\\ud800"}]',
        '[{"role": "assistant", "content": "", "tool_calls": [{"id": "abcdef123"}]}]',
        b"\xff",
    ],
)
def test_a_file_that_is_no_conversation_changes_nothing_and_is_not_overwritten(tmp_path, content):
    path = tmp_path / "talk.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    session = make_session()
    session.ask("hello")
    messages = list(session.conversation.messages)
    for command in ("load", "save"):
        with pytest.raises((UsageError, RequestError), match=r"talk\.json"):
            run_command(session, command, str(path))
    assert session.conversation.messages == messages
    assert path.read_bytes() == before


def test_an_empty_conversation_overwrites_nothing(tmp_path):
    file = tmp_path / "talk.json"
    file.write_text("[]")
    with pytest.raises(UsageError, match="there is nothing to save"):
        run_command(make_session(), "save", str(file))
    assert file.read_text() == "[]"


def test_save_into_a_missing_folder_is_one_line(tmp_path):
    session = make_session()
    session.conversation.keep(session.conversation.asking("one"), "1", [])
    with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory"):
        run_command(session, "save", str(tmp_path / "no" / "talk.json"))
    with pytest.raises(UsageError, match=r"cannot read .*: No such file or directory"):
        run_command(session, "load", str(tmp_path / "none.json"))


def test_tokens_shows_the_meter():
    session = make_session()
    run_command(session, "tokens", "")
    session.ask("a b")
    run_command(session, "tokens", "")
    assert said(session).splitlines() == ["0 % full: 0 of 1000 tokens", "0 % full: 6 of 1000 tokens"]


def test_a_nearly_full_context_is_warned_of():
    session = make_session()
    session.ask("word " * 790 + "end")
    assert "80 % full" not in said(session)
    session.ask("more " * 20)
    assert "(the context is" in said(session)
    assert "% full: " in said(session)


@pytest.mark.parametrize("prompt", ["too long", "half", "bug", "silent"])
def test_an_answer_that_fails_or_is_empty_leaves_the_conversation_as_it_was(prompt):
    session = make_session()
    session.ask("hello")
    messages = list(session.conversation.messages)
    try:
        session.ask(prompt)
    except (RequestError, RuntimeError):
        pass
    else:
        assert said(session) == "(the model ended its answer at once; your message was taken back)\n"
    assert session.conversation.messages == messages
    assert session.model.num_open_streams == 0


def test_an_answer_cut_at_max_tokens_says_so():
    session = make_session(max_tokens=3)
    session.ask("a b c")
    assert session.conversation.messages[-1]["content"] == "you said: a"
    assert said(session) == "(cut at max_tokens=3)\n"


def test_tool_call_is_a_json_line_on_a_pipe_and_dimmed_on_a_terminal(monkeypatch):
    session = make_session()
    session.ask("call")
    assert session.console._out.getvalue() == 'Let me see.\n{"name": "weather", "arguments": {"city": "Köln"}}\n'
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    session.console = Console(out=Screen(), err=io.StringIO())
    session.ask("call")
    assert session.console._out.getvalue() == 'Let me see.\n\x1b[2mweather({"city": "Köln"})\x1b[0m\n'
    assert said(session) == "(tools are not executed here; the model is told so)\n"


def test_open_tool_calls_are_answered_before_the_next_message():
    session = make_session()
    session.ask("call")
    session.ask("and now?")
    sent = session.model.requests[-1][0]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Köln"}'}
    assert sent[2] == {"role": "tool", "name": "weather", "tool_call_id": "abcdef123", "content": NOT_EXECUTED}


@pytest.mark.parametrize(
    ("color", "no_color", "term", "is_colored"),
    [
        ("auto", "", "xterm", True),
        ("auto", "1", "xterm", False),
        ("auto", "", "dumb", False),
        ("never", "", "xterm", False),
        ("always", "1", "dumb", True),
    ],
)
def test_colours_follow_the_flag_the_terminal_and_no_color(monkeypatch, color, no_color, term, is_colored):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    console = Console(color, out=io.StringIO(), err=Screen())
    console.note("x")
    assert ("\x1b[2m" in console._err.getvalue()) == is_colored
    console.aside("x")
    assert ("\x1b[2m" in console._out.getvalue()) == (color == "always")


def test_a_model_cannot_steer_the_terminal():
    screen = Screen()
    Console("never", out=screen, err=io.StringIO()).answer("a\x1b]0;title\x07\tb\r\nc\x9b2J")
    assert screen.getvalue() == "a\ufffd]0;title\ufffd\tb\nc\ufffd2J"
    pipe = io.StringIO()
    Console("never", out=pipe, err=io.StringIO()).answer("a\x1b[0m\r\n")
    assert pipe.getvalue() == "a\x1b[0m\r\n"


def test_an_error_is_one_line():
    assert one_line("tensor x:\n  expected\x1b[31m 3") == "tensor x: expected\ufffd[31m 3"


@pytest.mark.parametrize(
    ("text", "opened", "inner"),
    [
        ('"""', True, None),
        ('"""a', True, None),
        ('"""a"""', False, "a"),
        ('"""\na\n\nb\n"""', False, "a\n\nb"),
        ('"""/help"""', False, "/help"),
        ('""""""', False, ""),
        ('say """x"""', False, None),
    ],
)
def test_fences_enclose_several_lines(text, opened, inner):
    assert (is_open(text), unfenced(text)) == (opened, inner)


def test_text_that_is_not_utf8_is_refused():
    assert check_text("the prompt", "grüß 🙂") == "grüß 🙂"
    with pytest.raises(RequestError, match="the prompt is not UTF-8 at character 2"):
        check_text("the prompt", "ab\udcff")


def test_completion_knows_commands_settings_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.json").touch()
    completer = CommandCompleter(["help", "retry", "reset"], ["temperature", "top_p"])

    def complete(text):
        return [completion.text for completion in completer.get_completions(Document(text), CompleteEvent())]

    assert complete("/re") == ["reset", "retry"]
    assert complete("/set t") == ["temperature", "top_p"]
    assert complete("/load ta") == ["lk.json"]
    assert complete("hello /re") == []
    assert complete("/set temperature 0") == []


def test_history_file_is_private_and_failure_is_a_note(tmp_path):
    notes = []
    path = tmp_path / "state" / "mistral_local" / "history"
    history = open_history(path, notes.append)
    history.append_string("hello\nworld")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(open_history(path, notes.append).load_history_strings()) == ["hello\nworld"]
    assert isinstance(open_history(None, notes.append), InMemoryHistory)
    assert notes == []
    shutil.rmtree(path.parent)
    history.append_string("hello")
    history.append_string("again")
    assert len(notes) == 1
    blocked = tmp_path / "file"
    blocked.touch()
    assert isinstance(open_history(blocked / "history", notes.append), InMemoryHistory)
    assert len(notes) == 2


def test_first_interrupt_asks_to_stop_and_the_second_leaves():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(InterruptClock()) as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(SystemExit) as caught:
            signal.raise_signal(signal.SIGINT)
    assert caught.value.code == 130
    assert signal.getsignal(signal.SIGINT) == before


def test_loading_bar_redraws_at_most_ten_times_per_second():
    times = iter([0.0, 1.0, 1.05, 1.2, 1.21])
    drawn = []
    bar = LoadingBar(drawn.append, clock=lambda: next(times))
    for num_tensors in (1, 2, 3, 4):
        bar(num_tensors, 4, num_tensors * 10**9)
    assert [line[4:] for line in drawn] == [
        "[######                  ] 1/4 tensors  1.00 GB  1.00 GB/s",
        "[##################      ] 3/4 tensors  3.00 GB  2.50 GB/s",
        "[########################] 4/4 tensors  4.00 GB  3.31 GB/s",
    ]


def test_a_bare_name_is_looked_up_in_the_models_folder(tmp_path, monkeypatch):
    models = tmp_path / "models"
    (models / "7B_instruct").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISTRAL_MODEL", str(models))
    assert find_model_folder(None) is None
    assert str(find_model_folder("here")) == "here"
    assert find_model_folder("7B_instruct") == models / "7B_instruct"
    for name, message in [
        ("7B_instrct", rf"no folder 7B_instrct here or in \$MISTRAL_MODEL \({models}\); did you mean 7B_instruct\?"),
        ("zzz", "which holds 7B_instruct"),
        ("./7B_instruct", "no folder ./7B_instruct$"),
        ("file", "file is a file; expected the folder that holds params.json"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            find_model_folder(name)
    monkeypatch.delenv("MISTRAL_MODEL")
    with pytest.raises(CheckpointError, match=r"\$MISTRAL_MODEL, where names are looked up, is not set"):
        find_model_folder("7B_instruct")


@pytest.mark.parametrize("content", ["{}", "[]", "[{}]", '[{"function": {}}]', "nonsense"])
def test_a_tools_file_without_tools_is_refused(tmp_path, content):
    path = tmp_path / "tools.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"tools\.json"):
        read_definitions(path)
