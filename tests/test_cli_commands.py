"""The commands without a terminal: one answer on stdout, everything else on stderr, the right exit code."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import cli_fake
import pytest
from processes import running_process

from mistral_local.cli import entry
from mistral_local.cli.argv import check_arguments
from mistral_local.cli.command import Command, flags_of
from mistral_local.cli.demo import PROMPTS
from mistral_local.cli.help import help_text

FAKE = [sys.executable, str(Path(cli_fake.__file__))]
NOTE = "tekken.json chosen over tokenizer.model.v3\n"
COMMANDS = [
    entry.CHAT, entry.DEMO, entry.SERVE, entry.DOWNLOAD, *entry.WORKLOADS.values(), *entry.LOCAL.values()
]  # fmt: skip


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """Return a function that runs a command on the fake model in this process: (exit code, stdout, stderr)."""
    monkeypatch.setitem(sys.modules, "mistral_local.tasks.llm", cli_fake.fake_module())
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    cli_fake.LOADED.clear()
    on_terminate = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str, stdin: bytes = b"", command: Command = entry.CHAT) -> tuple[int, str, str]:
        (tmp_path / "stdin").write_bytes(stdin)
        with open(tmp_path / "stdin") as file:
            monkeypatch.setattr(sys, "stdin", file)
            try:
                code = entry.run_command(command, arguments)
            except SystemExit as error:
                code = error.code
        return code, *capfd.readouterr()

    yield run
    signal.signal(signal.SIGTERM, on_terminate)


def last_request():
    return cli_fake.LOADED[-1].requests[-1]


def test_one_prompt_prints_its_answer_only(run):
    assert run("--instruct", "-p", "grüß dich 🙂") == (0, "you said: grüß dich 🙂\n", NOTE)
    assert last_request()[0] == [{"role": "user", "content": "grüß dich 🙂"}]
    assert cli_fake.LOADED[-1].is_closed


@pytest.mark.parametrize("prompt", ["123", "[1,2]", "None", "-", "--"])
def test_a_prompt_that_looks_like_a_number_or_a_list_stays_text(run, prompt):
    assert run("--instruct", "-p", prompt)[:2] == (0, f"you said: {prompt}\n")


def test_piped_text_is_the_prompt_or_stands_before_it(run):
    assert run("-i", stdin=b"two\nlines\r\n")[1] == "you said: two\nlines\n"
    assert run("-i", "-p", "Review", stdin=b"a diff\n")[1] == "you said: a diff\n\nReview\n"
    assert run("-i", "-p", "Review", stdin=b"\n")[1] == "you said: Review\n"


def test_without_instruct_text_is_completed(run):
    assert run("-p", "Once upon")[1] == "you said: Once upon\n"
    assert last_request()[0] == "Once upon"


def test_the_defaults_are_those_of_the_predecessor_but_for_max_tokens(run):
    run("-p", "x")
    options = last_request()[2]
    assert (options.max_tokens, options.temperature, options.top_p, options.seed) == (None, 0.7, 0.8, None)


def test_flags_reach_the_model(run, tmp_path):
    tools = [{"type": "function", "function": {"name": "weather"}}]
    (tmp_path / "tools.json").write_text(json.dumps(tools))
    run(
        *["-i", str(tmp_path), "-p", "x", "-s", "be brief", "--max_tokens", "2", "--temperature", "0", "--top_p", "1"],
        *["--seed", "7", "--tools", str(tmp_path / "tools.json"), "--device", "cpu", "--dtype", "float32"],
        *["--max_context", "50", "--lora_path", "l.safetensors", "--num_threads", "3", "--quantize", "int8"],
        *["--kv_memory", "4GB", "--kv_dtype", "fp8", "--speculate", "ngram", "--deterministic"],
    )
    messages, sent_tools, options = last_request()
    assert messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "x"}]
    assert sent_tools == tools
    assert (options.max_tokens, options.temperature, options.top_p, options.seed) == (2, 0.0, 1.0, 7)
    model = cli_fake.LOADED[-1]
    how = {name: value for name, value in model.how.items() if name not in ("note", "progress")}
    assert model.folder == tmp_path
    assert how == {
        "device": "cpu", "dtype": "float32", "max_context": 50, "lora_path": "l.safetensors", "num_threads": 3,
        "kv_memory": "4GB", "kv_dtype": "fp8", "speculate": "ngram", "deterministic": True, "num_pipeline_ranks": 1, "expert_parallel": False, "quantize": "int8",
    }  # fmt: skip


def test_json_holds_text_calls_reason_and_usage(run):
    code, out, _ = run("-i", "-p", "call", "--json")
    assert code == 0
    assert json.loads(out) == {
        "text": "Let me see.",
        "reasoning": "",
        "tool_calls": [{"id": "abcdef123", "name": "weather", "arguments": {"city": "Köln"}}],
        "finish_reason": "tool_calls",
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "time_to_first_token_s": 0.25,
            "decode_tokens_per_s": 50.0,
        },
    }
    assert out.count("\n") == 1
    assert run("-i", "-p", "half", "--json") == (2, "", NOTE + "Error: cannot go on\n")


def test_stats_and_cuts_go_to_stderr(run):
    code, out, err = run("-i", "-p", "a b c", "--max_tokens", "3", "--stats")
    assert (code, out) == (0, "you said: a\n")
    stats = "3 prompt tokens, 3 new tokens, first after 0.25 s, then 50.0 tok/s\n"
    assert err == NOTE + "(cut at max_tokens=3)\n" + stats


def test_an_error_in_the_answer_ends_its_line(run):
    assert run("-i", "-p", "half") == (2, "some text\n", NOTE + "Error: cannot go on\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--instrct"], 2, "unknown flag --instrct; did you mean --instruct? (mistral-chat --help lists the flags)"),
        (["--max_tokens", "0"], 2, "max_tokens: expected at least 1, got 0"),
        (
            ["--num_pipeline_ranks", "2"],
            2,
            "--num_pipeline_ranks 2 needs a multiple of so many processes, there is 1; start",
        ),
        (["--system", "x"], 2, "--system needs --instruct: without it text is completed"),
        (["--tools", "x"], 2, "--tools needs --instruct: without it text is completed"),
        (["-i", "--tools", "/nonexistent"], 2, "cannot read /nonexistent: No such file or directory"),
        (["-p", " "], 2, "the prompt is empty"),
        (["-p", "a\udcff"], 2, "the prompt is not UTF-8 at character 1"),
        (["/nonexistent"], 3, "no folder /nonexistent"),
        ([], 2, "no prompt: stdin is empty and there is no -p"),
    ],
)
def test_bad_input_is_one_line_and_loads_nothing(run, arguments, code, message):
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert err.startswith(f"Error: {message}")
    assert err.count("\n") == 1
    assert cli_fake.LOADED == []


def test_stdin_that_is_not_utf8_is_refused(run):
    assert run(stdin=b"ab\xff") == (2, "", "Error: stdin is not UTF-8 at byte 2\n")


def test_stages_that_the_processes_cannot_form_are_refused_by_rank_0(run, monkeypatch):
    for name, value in {"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4, "RANK": 0, "LOCAL_RANK": 0}.items():
        monkeypatch.setenv(name, str(value))
    expected = "Error: --num_pipeline_ranks 3 needs a multiple of so many processes, there are 4\n"
    assert run("-p", "x", "--pipeline", "3") == (2, "", expected)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run("-p", "x", "--pipeline", "3") == (2, "", "")


def test_traceback_shows_with_debug_only(run):
    code, out, err = run("-i", "-p", "bug")
    assert (code, out) == (1, "")
    assert err == NOTE + "Error: internal error, please report it: RuntimeError: shapes do not match\n"
    with start("-i", "-p", "bug", "--debug") as process:
        lines = process.communicate(timeout=10)[1].decode().splitlines()
    assert process.returncode == 1
    assert "Traceback (most recent call last):" in lines
    assert lines[-1] == "RuntimeError: shapes do not match"


def test_demo_prints_three_prompts_with_their_completions(run):
    code, out, _ = run(command=entry.DEMO)
    assert code == 0
    assert out == "".join(f"{prompt} and more\n=====================\n" for prompt in PROMPTS)
    prompts, _, options = last_request()
    assert prompts == ["This is a test", "This is another great test", PROMPTS[2]]
    assert PROMPTS[2] == "This is a third test, mistral AI is very good at testing. "
    assert (options.max_tokens, options.temperature) == (35, 0.0)
    assert cli_fake.LOADED[-1].how["max_batch_size"] == 3


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_flag_is_explained_and_every_example_is_accepted(command):
    text = help_text(command)
    assert text.index("Examples:") < text.index("Flags:")
    flags = flags_of(command.load_function())
    lines = text.split("Usage:")[1].splitlines()
    for flag in flags.values():
        heads = [line for line in lines if line.replace(",", " ").split()[:1] == [f"--{flag.name}"]]
        assert flag.is_positional or len(heads) == 1
    assert all(len(line) > 26 for line in lines if line.startswith(" " * 26))
    assert all(len(line) <= 100 for line in lines)
    for example, _ in command.examples:
        words = shlex.split(example.partition(" -- ")[0].partition(">")[0].rpartition("|")[2])
        if words[0] == "torchrun":
            words = words[words.index("--no-python") + 1 :]
        own = command.name.split()
        assert words[: len(own)] == own
        check_arguments(words[len(own) :], flags, command.shorts)


@pytest.mark.parametrize("command", ["mistral-chat", "mistral-demo"])
def test_help_is_printed_at_once_without_torch_or_a_pager(command):
    code = (
        "import sys; from mistral_local.cli import entry; sys.argv = ['x', '--help'];"
        f"code = entry.{command.removeprefix('mistral-')}();"
        "assert 'torch' not in sys.modules and 'prompt_toolkit' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{command}: ")
    assert "--max_tokens N" in done.stdout


def test_version_names_the_installed_packages(run):
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["mistral_local", "torch", "mistral_common", "python"]


def start(*arguments: str, **keywords):
    """Start mistral-chat on the fake model in a process of its own."""
    return running_process(
        [*FAKE, "mistral-chat", *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **keywords
    )


def test_a_reader_that_leaves_ends_the_answer_quietly():
    with start("-i", "-p", "count", stdout=subprocess.PIPE) as process:
        assert process.stdout.read(6) == b"0 1 2 "
        process.stdout.close()
        assert process.wait(10) == 141
        assert process.stderr.read() == NOTE.encode()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full, start("-i", "-p", "hello", stdout=full) as process:
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err.decode() == NOTE + "Error: No space left on device\n"


@pytest.mark.parametrize(("number", "code", "note"), [(signal.SIGINT, 130, "(stopped)\n"), (signal.SIGTERM, 143, "")])
def test_a_signal_ends_the_answer_where_it_is(number, code, note):
    with start("-p", "count", stdout=subprocess.PIPE) as process:
        assert process.stdout.read(6) == b"0 1 2 "
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert out.decode().split() == [str(number) for number in range(3, 3 + len(out.split()))]
    assert err.decode() == NOTE + note


def test_ctrl_c_while_loading_leaves_quietly():
    with start("-p", "x", stdout=subprocess.PIPE, env={**os.environ, "FAKE_LOAD_S": "20"}) as process:
        assert process.stderr.readline().decode() == NOTE
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 130
