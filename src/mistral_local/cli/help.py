"""Write `--help` and `--version`: examples first, each flag with its type and default, no pager."""

import importlib.metadata
import platform
import shutil
import textwrap
from collections.abc import Mapping
from typing import Literal, get_args, get_origin

from fire import docstrings

from mistral_local.cli.command import Command, Flag, flags_of, runs_program
from mistral_local.cli.values import without_none

WIDEST = 100
COMMON_FLAGS = {
    "--debug": "show the traceback of an error, too",
    "--help, -h": "show this and leave",
    "--version": "show the versions of mistral_local, torch and mistral_common and leave",
}

ENVIRONMENT = {
    "MISTRAL_MODEL": "folder of checkpoint folders, where a bare name is looked up",
    "MISTRAL_LOCAL_API_KEY": "the key of mistral-serve, if no flag names one",
    "MISTRAL_LOCAL_URL": "the server of mistral-local run and env, if no flag names one",
    "MISTRAL_DOWNLOAD_BASE": "base address of the archives that mistral-download fetches",
    "NO_COLOR": "if set, no colours unless --color always",
    "MISTRAL_LOCAL_NOHISTORY": "if set, mistral-chat keeps no history file",
}


def help_text(command: Command) -> str:
    """Describe a command from its examples and from the signature and docstring of its function."""
    function = command.load_function()
    flags = flags_of(function)
    described = docstrings.parse(function.__doc__ or "")
    meanings = {argument.name: argument.description or "" for argument in described.args or []}
    width = min(WIDEST, shutil.get_terminal_size().columns)
    positional = [flag for flag in flags.values() if flag.is_positional]
    parts = [f"{command.name}: {described.summary}", "", "Examples:"]
    for line, meaning in command.examples:
        parts += [f"  {line}", f"      {meaning}"]
    usage = [command.name, *(f"[{_positional_name(flag)}]" for flag in positional), "[flags]"]
    usage += ["-- PROGRAM [ARGUMENTS]"] if runs_program(function) else []
    parts += ["", "Usage: " + " ".join(usage)]
    for flag in positional:
        parts += _entry(_positional_name(flag), meanings.get(flag.name, ""), width)
    parts += ["", "Flags:"]
    for flag in flags.values():
        if not flag.is_positional:
            parts += _entry(_written(flag, command.shorts), _meaning(flag, meanings.get(flag.name, "")), width)
    for written, meaning in COMMON_FLAGS.items():
        parts += _entry(written, meaning, width)
    parts += ["", "Environment:"]
    for name, meaning in ENVIRONMENT.items():
        parts += _entry(name, meaning, width)
    return "\n".join(parts)


def commands_text(name: str, commands: Mapping[str, Command]) -> str:
    """List the commands of a command."""
    lines = [f"Usage: {name} COMMAND ...", "", "Commands:"]
    for own, command in commands.items():
        summary = docstrings.parse(command.load_function().__doc__ or "").summary
        lines.append(f"  {own:<12}{summary}")
    return "\n".join([*lines, "", f"{name} COMMAND --help says more."])


def version_text() -> str:
    """Name the installed versions without importing the packages."""
    packages = ["mistral_local", "torch", "mistral_common"]
    return "\n".join([f"{name} {_version(name)}" for name in packages] + [f"python {platform.python_version()}"])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def _positional_name(flag: Flag) -> str:
    return "DIR" if flag.name == "model_path" else flag.name.upper()


def _written(flag: Flag, shorts: Mapping[str, str]) -> str:
    """Return `--max_tokens N` or `--prompt TEXT, -p`."""
    kind, _ = without_none(flag.annotation)
    if get_origin(kind) is Literal:
        value = "|".join(get_args(kind))
    elif flag.is_switch and flag.default is True:
        value = "true|false"
    elif flag.name in ("lora_path", "tools"):
        value = "FILE"
    else:
        value = {bool: "", int: "N", float: "X"}.get(kind, "TEXT")
    others = [other for other, name in shorts.items() if name == flag.name]
    short = "".join(f", -{other}" if len(other) == 1 else f", --{other}" for other in others)
    return f"--{flag.name} {value}".rstrip() + short


def _meaning(flag: Flag, meaning: str) -> str:
    if flag.default is None or flag.default is False:
        return meaning
    return f"{meaning} (default {str(flag.default).lower() if flag.is_switch else flag.default})"


def _entry(written: str, meaning: str, width: int) -> list[str]:
    """Lay out one flag; its meaning starts in column 26, on its own line if the flag is long."""
    lines = textwrap.wrap(meaning, width - 26) or [""]
    head = f"  {written:<24}" if len(written) < 24 else f"  {written}\n{'':26}"
    return [head + lines[0], *(f"{'':26}{line}" for line in lines[1:])]
