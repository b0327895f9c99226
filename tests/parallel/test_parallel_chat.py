"""mistral-chat under torchrun on a terminal: keys reach rank 0 only, and Ctrl-C stops an answer before it ends all."""

import os
import signal
import time

import pexpect
import pytest
from ranks import TORCHRUN, environment

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

NEVER_ENDING = ("--temperature", "100", "--top_p", "1", "--seed", "1")
"""Tokens at random, among which the end comes late."""

ENTER, CTRL_C, CTRL_D = "\r", "\x03", "\x04"
READY = r"> |>\x08\x1b\[2C"  # the prompt as it is, or as prompt_toolkit draws it


@pytest.fixture
def chat(tmp_path):
    child = pexpect.spawn(
        TORCHRUN[0],
        [*TORCHRUN[1:], "--standalone", "--nproc-per-node=2", "--no-python", "mistral-chat", *NEVER_ENDING],
        env=environment() | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(tmp_path)},
        encoding="utf-8",
        timeout=60,
        dimensions=(30, 100),
    )
    child.delaybeforesend = None
    child.expect("Ctrl-D leaves")
    child.expect(READY)
    yield child
    if child.isalive():
        os.kill(child.pid, signal.SIGKILL)
    child.close()


def ends(child):
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


def test_a_dialogue_on_two_ranks_is_shown_once_and_ctrl_d_leaves(chat):
    chat.send("/set max_tokens 8" + ENTER)
    chat.expect(READY)
    for _ in range(2):
        chat.send("This is a test" + ENTER)
        chat.expect(r"\(cut at max_tokens=8\)")
        assert "Error" not in chat.before
        chat.expect(READY)
    chat.send(CTRL_D)
    assert ends(chat) == 0
    assert "Error" not in chat.before


def test_ctrl_c_stops_the_answer_and_twice_ends_all_ranks_in_good_order(chat):
    chat.send("This is a test" + ENTER)
    time.sleep(2)  # the answer has begun, and has thousands of tokens to go
    chat.send("typed ahead")
    chat.send(CTRL_C)
    chat.expect(r"\(stopped")
    chat.expect("typed ahead")
    time.sleep(1.1)  # or the next one would be the second of two
    chat.send(CTRL_C)  # drops what was typed
    time.sleep(1.1)
    chat.send(CTRL_C)
    chat.expect("Ctrl-C twice")
    chat.send(CTRL_C)  # within a second of the first
    assert ends(chat) == 0
    assert "Error" not in chat.before
    assert "Traceback" not in chat.before
