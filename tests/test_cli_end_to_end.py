"""The installed commands on the bundled demo checkpoint: the whole road from argv to text."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import running_process

import mistral_local

CHECKPOINT = Path(mistral_local.__file__).parent / "demo" / "checkpoint" / "params.json"
pytestmark = pytest.mark.skipif(not CHECKPOINT.exists(), reason="the demo checkpoint is not bundled yet")


def command(name: str, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        f"import sys; from mistral_local.cli.entry import {name}; sys.exit({name}())",
        *arguments,
    ]


def run(name: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *arguments), input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def test_demo_completes_its_prompts():
    done = run("demo", "--max_tokens", "5")
    assert done.returncode == 0, done.stderr
    assert [block.startswith("This is a") for block in done.stdout.split("\n=====================\n")[:3]] == [True] * 3


def test_a_piped_answer_equals_its_json():
    flags = ["--instruct", "--max_tokens", "8", "--temperature", "0"]
    plain = run("chat", *flags, stdin="What is 3 + 4?\n")
    whole = run("chat", *flags, "--json", "-p", "What is 3 + 4?")
    assert (plain.returncode, whole.returncode) == (0, 0), plain.stderr + whole.stderr
    answer = json.loads(whole.stdout)
    assert plain.stdout == answer["text"].removesuffix("\n") + "\n"
    assert answer["usage"]["completion_tokens"] <= 8


def test_ctrl_c_stops_a_real_answer():
    flags = ["--max_tokens", "2000", "--temperature", "1.5", "--seed", "1"]
    with running_process(
        command("chat", *flags, "-p", "Once upon a time"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.decode().endswith("(stopped)\n")


def test_a_folder_without_a_checkpoint_exits_3(tmp_path):
    done = run("chat", str(tmp_path), "-p", "x")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
