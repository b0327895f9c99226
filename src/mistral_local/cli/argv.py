"""Check the command line against a function's signature, then let fire call the function with it.

fire alone runs a function before it notices an unknown flag, reads `-p 123` as a number, `-` and `--` as its own
separators, and takes the word after a switch for its value. So every argument is checked here first and handed to fire
as `--name=value`, a form it has no second opinion about, with one reader per flag.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence

import fire
from fire.decorators import SetParseFns

from mistral_local.cli.command import Flag
from mistral_local.cli.nearest import did_you_mean
from mistral_local.cli.values import FALSE_WORDS, TRUE_WORDS, parse_value
from mistral_local.errors import UsageError

_FLAG = re.compile(r"--[A-Za-z][\w-]*(=|$)|-[A-Za-z](=|$)")


def check_arguments(arguments: Sequence[str], flags: Mapping[str, Flag], shorts: Mapping[str, str]) -> dict[str, str]:
    """Map each argument to the flag that it belongs to: name -> text of its value.

    `--max-tokens` equals `--max_tokens`; `--no_x` sets a switch to false; the last of two wins; after `--` nothing is a flag.

    Raises:
        UsageError: for an unknown flag (with the nearest name), a missing value or one argument too many.
    """
    given: dict[str, str] = {}
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument == "--":
            for value in remaining:
                _add_positional(value, flags, given)
            break
        if not argument.startswith("-") or argument == "-":
            _add_positional(argument, flags, given)
            continue
        written, has_value, value = argument.partition("=")
        name, negated = _flag_name(written, flags, shorts)
        if has_value and negated:
            raise UsageError(f"{written} takes no value, got {value!r}")
        if has_value:
            given[name] = value
        elif flags[name].is_switch:
            given[name] = "false" if negated else _switch_value(remaining)
        else:
            given[name] = _next_value(written, remaining, flags, shorts)
    return given


def call_with_fire(
    function: Callable[..., object], given: Mapping[str, str], flags: Mapping[str, Flag], name: str
) -> None:
    """Call `function` through fire with the checked values, each read as its declared type.

    Raises:
        UsageError: if a value is not of its flag's type; the function has not run then.
    """
    for flag_name, text in given.items():
        parse_value(f"--{flag_name}", flags[flag_name].annotation, text)
    readers = {flag.name: functools.partial(parse_value, f"--{flag.name}", flag.annotation) for flag in flags.values()}

    @functools.wraps(function)
    def run(*values: object, **named: object) -> None:
        function(*values, **named)

    fire.Fire(SetParseFns(**readers)(run), command=[f"--{key}={text}" for key, text in given.items()], name=name)


def _flag_name(written: str, flags: Mapping[str, Flag], shorts: Mapping[str, str]) -> tuple[str, bool]:
    """Return the flag's name and whether it was negated (`--no_x`, `--nox`)."""
    key = written.lstrip("-").replace("-", "_")
    if not written.startswith("--"):
        if key in shorts:
            return shorts[key], False
        raise UsageError(f"unknown flag {written}{did_you_mean(key, flags, prefix='--')}")
    if key in flags:
        return key, False
    if len(key) > 1 and key in shorts:
        return shorts[key], False
    for prefix in ("no_", "no"):
        if key.startswith(prefix) and key.removeprefix(prefix) in flags and flags[key.removeprefix(prefix)].is_switch:
            return key.removeprefix(prefix), True
    raise UsageError(f"unknown flag {written}{did_you_mean(key, flags, prefix='--')}")


def _add_positional(value: str, flags: Mapping[str, Flag], given: dict[str, str]) -> None:
    free = [flag.name for flag in flags.values() if flag.is_positional and flag.name not in given]
    if not free:
        hint = "; a prompt goes after -p" if "prompt" in flags else ""
        raise UsageError(f"unexpected argument {value!r}{hint}")
    given[free[0]] = value


def _switch_value(remaining: list[str]) -> str:
    """Take the next word as the switch's value only if it says yes or no: `--instruct DIR` is a switch and a folder."""
    if remaining and remaining[0].lower() in (*TRUE_WORDS, *FALSE_WORDS):
        return remaining.pop(0)
    return "true"


def _next_value(written: str, remaining: list[str], flags: Mapping[str, Flag], shorts: Mapping[str, str]) -> str:
    if not remaining:
        raise UsageError(f"{written} needs a value")
    value = remaining[0]
    key = value.partition("=")[0].lstrip("-").replace("-", "_")
    if _FLAG.match(value) and (key in flags or key in shorts):
        raise UsageError(f"{written} needs a value, and {value} is a flag; {written}={value} if it is the value")
    return remaining.pop(0)
