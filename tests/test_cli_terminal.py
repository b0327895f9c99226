"""mistral-chat on a terminal: editing, Ctrl-C, Ctrl-D, history, pasting."""

import os
import re
import signal
import stat
import sys
import time
from pathlib import Path

import cli_fake
import pexpect
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

ENTER, CTRL_C, CTRL_D, CTRL_J, ALT_ENTER, UP = "\r", "\x03", "\x04", "\n", "\x1b\r", "\x1b[A"
PASTE, PASTED = "\x1b[200~", "\x1b[201~"
READY = r"> |>\x08\x1b\[2C"  # the prompt as it is, or as prompt_toolkit draws it
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@pytest.fixture
def chat(tmp_path):
    """Return a function that starts mistral-chat on the fake model in a terminal."""
    started = []

    def chat(*arguments, wait=True, answers=None, **environment):
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "WORLD_SIZE")},
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "XDG_STATE_HOME": str(tmp_path / "state"),
            **environment,
        }
        command = [sys.executable, cli_fake.__file__, "mistral-chat", *arguments]
        if answers is not None:
            command = ["/bin/sh", "-c", 'exec "$@" > "$0"', str(answers), *command]
        child = pexpect.spawn(
            command[0], command[1:], env=environment, encoding="utf-8", timeout=6, dimensions=(30, 100), cwd=tmp_path
        )
        started.append(child)
        child.delaybeforesend = None
        if wait:
            child.expect("Ctrl-D leaves")
            child.expect(READY)
        return child

    yield chat
    for child in started:
        child.close(force=True)


def send(child, text, answer):
    """Send a message, and wait for the answer and the next prompt."""
    child.send(text + ENTER)
    child.expect_exact(answer)
    child.expect(READY)


def leave(child, keys=CTRL_D):
    """Send the keys and return the exit code."""
    child.send(keys)
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


def test_a_conversation_is_kept_and_ctrl_d_leaves(chat, tmp_path):
    child = chat("--instruct")
    send(child, "grüß dich", "you said: grüß dich")
    send(child, "/undo", "(taken back: grüß dich)")
    send(child, "again", "you said: again")
    send(child, "/retry", "you said: again")
    send(child, "/save talk.json", "(2 messages saved to talk.json)")
    assert leave(child) == 0
    assert (tmp_path / "talk.json").exists()


def test_ctrl_c_stops_the_answer_and_keeps_what_has_come(chat, tmp_path):
    child = chat("--instruct")
    child.send("count" + ENTER)
    child.expect_exact("0 1 2 3")
    child.send(CTRL_C)
    child.expect_exact("(stopped)")
    child.expect(READY)
    time.sleep(1.0)
    send(child, "/save talk.json", "(2 messages saved to talk.json)")
    assert '"content": "0 1 2 3' in (tmp_path / "talk.json").read_text()
    send(child, "hello", "you said: hello")
    assert leave(child, "/exit" + ENTER) == 0


def test_ctrl_c_twice_during_an_answer_exits_130(chat):
    child = chat("--instruct")
    child.send("count" + ENTER)
    child.expect_exact("0 1 2 3")
    child.send(CTRL_C)
    time.sleep(0.1)
    assert leave(child, CTRL_C) == 130


def test_ctrl_c_hints_how_to_leave_and_twice_exits_130(chat):
    child = chat("--instruct")
    child.send("half a thought" + CTRL_C)
    child.expect(READY)
    child.expect(READY)
    time.sleep(1.1)
    child.send(CTRL_C)
    child.expect_exact("(Ctrl-D or /exit leaves, Ctrl-C twice too)")
    time.sleep(1.1)
    child.send(CTRL_C)
    child.expect_exact("(Ctrl-D or /exit leaves, Ctrl-C twice too)")
    assert leave(child, CTRL_C) == 130


def test_ctrl_c_while_loading_exits_130(chat):
    child = chat("--instruct", wait=False, FAKE_LOAD_S="20")
    child.expect_exact("loading the demo checkpoint ...")
    child.expect_exact("tekken.json chosen")
    assert leave(child, CTRL_C) == 130
    assert "Traceback" not in child.before


def test_sigterm_exits_143_and_restores_the_terminal(chat):
    child = chat("--instruct", answers="/dev/null")
    child.kill(signal.SIGTERM)
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 143
    assert "\x1b[?2004l" in child.before
    assert "Traceback" not in child.before


def test_the_answers_alone_go_to_stdout(chat, tmp_path):
    answers = tmp_path / "answers"
    child = chat("--instruct", "--stats", answers=answers)
    child.send("hello" + ENTER)
    child.expect_exact("then 50.0 tok/s")
    child.send("/tokens" + ENTER)
    child.expect_exact("0 % full: 4 of 1000 tokens")
    assert leave(child) == 0
    assert answers.read_text() == "you said: hello\n"


@pytest.mark.parametrize(
    "keys",
    [
        f"one{CTRL_J}/two{ENTER}",
        f"one{ALT_ENTER}/two{ENTER}",
        f'"""one{ENTER}/two"""{ENTER}',
        f"{PASTE}one\r/two{PASTED}{ENTER}",
    ],
    ids=["Ctrl-J", "Alt-Enter", "fence", "paste"],
)
def test_a_message_of_several_lines_is_one_message(chat, tmp_path, keys):
    answers = tmp_path / "answers"
    child = chat("--instruct", "--stats", answers=answers)
    child.send(keys)
    child.expect_exact("tok/s")
    assert leave(child) == 0
    assert answers.read_text() == "you said: one\n/two\n"


def test_keys_typed_during_an_answer_are_the_next_message(chat, tmp_path):
    answers = tmp_path / "answers"
    child = chat("--instruct", answers=answers)
    child.send("count to 30" + ENTER)
    time.sleep(0.2)
    child.send("hello" + ENTER)
    child.expect(READY)
    assert "hello" not in CONTROLS.sub("", child.before)
    child.expect(READY)
    assert leave(child) == 0
    numbers = " ".join(map(str, range(1, 31)))
    assert answers.read_text() == f"{numbers} \nyou said: hello\n"


def test_history_survives_in_a_private_file(chat, tmp_path):
    child = chat("--instruct")
    send(child, "first", "you said: first")
    assert leave(child) == 0
    path = tmp_path / "state" / "mistral_local" / "history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    child = chat("--instruct")
    send(child, UP, "you said: first")
    assert leave(child) == 0


@pytest.mark.parametrize(
    ("arguments", "environment"), [(["--history", "false"], {}), ([], {"MISTRAL_LOCAL_NOHISTORY": "1"})]
)
def test_history_can_be_refused(chat, tmp_path, arguments, environment):
    child = chat("--instruct", *arguments, **environment)
    send(child, "first", "you said: first")
    assert leave(child) == 0
    assert not (tmp_path / "state").exists()


def test_commands_are_completed_and_mistakes_leave_the_conversation(chat):
    child = chat("--instruct")
    send(child, "/undp", "unknown command /undp; did you mean /undo? (/help lists them)")
    send(child, "/set temprature 1", "unknown setting temprature; did you mean temperature?")
    send(child, "too long", "the prompt has 9999 tokens, the context 1000")
    send(child, "bug", "internal error, please report it: RuntimeError: shapes do not match")
    send(child, "/tok\t", "0 % full: 0 of 1000 tokens")
    send(child, "hello", "you said: hello")
    assert leave(child) == 0


def test_without_instruct_each_text_is_completed(chat):
    child = chat()
    send(child, "Once upon", "you said: Once upon")
    send(child, "/undo", "Error: there is no conversation: without --instruct each text is completed by itself")
    assert leave(child) == 0


def test_a_dumb_terminal_gets_plain_lines(chat):
    child = chat("--instruct", TERM="dumb")
    child.send('"""one\ntwo"""\n')
    child.expect("you said: one\r?\ntwo")
    child.expect(READY)
    assert "\x1b" not in child.before
    child.send(CTRL_C)
    child.expect_exact("(Ctrl-D or /exit leaves, Ctrl-C twice too)")
    assert leave(child) == 0


def test_colours_on_the_terminal_obey_no_color(chat):
    assert "\x1b[2m" in chat("--instruct", "-p", "hi", wait=False).read()
    assert "\x1b[2m" not in chat("--instruct", "-p", "hi", wait=False, NO_COLOR="1").read()


def test_the_installed_script_runs_this_code():
    script = Path(sys.executable).with_name("mistral-chat")
    if not script.exists():
        pytest.skip("the package is not installed with its scripts")
    assert "mistral_local.cli.entry import chat" in script.read_text()


TOOL = """
from mistral_local import tool

@tool
def weather(city: str) -> str:
    "Tell the weather."
    return f"fine in {city}"
"""


def test_a_call_is_run_only_after_a_yes_that_was_typed_after_the_question(chat, tmp_path):
    (tmp_path / "tools.py").write_text(TOOL)
    child = chat("--instruct", "--tools", "tools.py")
    child.send("call" + ENTER + "y" + ENTER)  # too early for a yes: it is the next message
    child.expect_exact("Run weather? [y]es, [n]o, [a]ll from now on: ")
    child.send("n" + ENTER)
    child.expect_exact("you said: error: the user refused this call")
    child.expect_exact("you said: y")
    child.expect(READY)
    child.send("call" + ENTER)
    child.expect_exact("[a]ll from now on: ")
    child.send("y" + ENTER)
    child.expect_exact("| fine in Köln")
    child.expect_exact("you said: fine in Köln")
    child.expect(READY)
    child.send("call" + ENTER)
    child.expect_exact("[a]ll from now on: ")
    child.send(CTRL_C)
    child.expect_exact("(interrupted)")
    child.expect(READY)
    time.sleep(1.1)
    send(child, "/save talk.json", "(10 messages saved to talk.json)")
    assert leave(child) == 0
