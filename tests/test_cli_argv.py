"""Arguments are checked against the signature before fire calls the function; strings stay strings."""

from typing import Any

import pytest

from mistral_local.cli import entry
from mistral_local.cli.argv import call_with_fire, check_arguments
from mistral_local.cli.command import flags_of
from mistral_local.cli.console import Color
from mistral_local.errors import UsageError

CALLS: list[dict[str, Any]] = []
SHORTS = {"p": "prompt"}


def command(
    model_path: str | None = None,
    *,
    prompt: str | None = None,
    max_tokens: int | None = None,
    temperature: float = 0.7,
    instruct: bool = False,
    color: Color = "auto",
) -> int:
    CALLS.append({name: value for name, value in locals().items() if value != DEFAULTS.get(name)})
    return 7


FLAGS = flags_of(command)
DEFAULTS = {flag.name: flag.default for flag in FLAGS.values()}


def call(*arguments: str) -> dict[str, Any]:
    """Return the values that `command` was called with, defaults left out."""
    CALLS.clear()
    call_with_fire(command, check_arguments(arguments, FLAGS, SHORTS), FLAGS, "command")
    (given,) = CALLS
    return given


@pytest.mark.parametrize(
    "text",
    [
        "123",
        "[1,2]",
        "{a: b}",
        "None",
        "True",
        "1e3",
        "'x'",
        "-",
        "-5 + 3",
        "a\nb",
        "a=b",
        "--",
        "",
        "#x",
        "--x y",
        "ü",
        "-3",
    ],
)
def test_a_prompt_stays_the_string_it_is(text):
    assert call("-p", text) == {"prompt": text}
    assert call(f"--prompt={text}") == {"prompt": text}
    assert call(f"-p={text}") == {"prompt": text}


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {}),
        (["DIR"], {"model_path": "DIR"}),
        (["123"], {"model_path": "123"}),
        (["--instruct", "DIR"], {"model_path": "DIR", "instruct": True}),
        (["DIR", "--instruct"], {"model_path": "DIR", "instruct": True}),
        (["--instruct", "false", "DIR"], {"model_path": "DIR"}),
        (["--instruct=True"], {"instruct": True}),
        (["--instruct", "--noinstruct"], {}),
        (["--no-instruct"], {}),
        (["--max-tokens", "5", "--max_tokens", "6"], {"max_tokens": 6}),
        (["--max_tokens", "none"], {}),
        (["--temperature", "0"], {"temperature": 0.0}),
        (["--temperature=-1"], {"temperature": -1.0}),
        (["--model_path", "DIR"], {"model_path": "DIR"}),
        (["--color", "never"], {"color": "never"}),
        (["--", "--instruct"], {"model_path": "--instruct"}),
    ],
)
def test_arguments_reach_the_function(arguments, given):
    assert call(*arguments) == given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max_token", "3"], "unknown flag --max_token; did you mean --max_tokens?"),
        (["--temp", "3"], "unknown flag --temp; did you mean --temperature?"),
        (["--interactive"], "unknown flag --interactive; did you mean --instruct?"),
        (["-x"], "unknown flag -x"),
        (["--no_prompt"], "unknown flag --no_prompt; did you mean --prompt?"),
        (["DIR", "hello"], "unexpected argument 'hello'; a prompt goes after -p"),
        (["--prompt"], "--prompt needs a value"),
        (["-p", "--instruct"], "-p needs a value, and --instruct is a flag; -p=--instruct if it is the value"),
        (["--max_tokens", "many"], "--max_tokens: expected a whole number, got 'many'"),
        (["--max_tokens", "3.5"], "--max_tokens: expected a whole number, got '3.5'"),
        (["--temperature", "nan"], "--temperature: expected a number, got 'nan'"),
        (["--instruct=maybe"], "--instruct: expected true or false, got 'maybe'"),
        (["--no_instruct=true"], "--no_instruct takes no value, got 'true'"),
        (["--color", "red"], "--color: expected auto, always or never, got 'red'"),
    ],
)
def test_bad_arguments_are_refused_before_the_function_runs(arguments, message):
    CALLS.clear()
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    assert str(caught.value) == message
    assert CALLS == []


def test_the_flags_of_the_predecessor_keep_their_names():
    upstream = {"model_path", "max_tokens", "temperature", "num_pipeline_ranks", "lora_path"}
    assert upstream | {"instruct"} <= set(flags_of(entry.CHAT.load_function()))
    assert upstream <= set(flags_of(entry.DEMO.load_function()))


def test_the_set_of_flags_is_what_is_listed_here():
    assert list(flags_of(entry.CHAT.load_function())) == [
        "model_path", "instruct", "prompt", "system", "max_tokens", "temperature", "top_p", "seed", "lora_path", "quantize", "tools",
            "python", "sandbox", "sandbox_python", "approve",
        "device", "dtype", "num_threads", "max_context", "kv_memory", "kv_dtype", "speculate", "deterministic",
        "num_pipeline_ranks", "expert_parallel", "stats", "json", "history", "color",
    ]  # fmt: skip
    assert list(flags_of(entry.DEMO.load_function())) == [
        "model_path", "max_tokens", "temperature", "top_p", "seed", "lora_path", "quantize", "device", "dtype", "num_threads", "kv_dtype", "deterministic",
        "num_pipeline_ranks", "expert_parallel",
    ]  # fmt: skip
