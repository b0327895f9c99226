"""What a console command is: a function, the names of its flags, and examples of its use."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mistral_local.cli.values import without_none


@dataclass(frozen=True, slots=True)
class Flag:
    """One parameter of a command's function.

    Attributes:
        name: as in the signature; the flag is `--name`.
        annotation: its type, evaluated.
        is_positional: whether it may be given without its name.
    """

    name: str
    annotation: Any
    default: Any
    is_positional: bool

    @property
    def is_switch(self) -> bool:
        """Whether the flag alone means true."""
        return without_none(self.annotation)[0] is bool


@dataclass(frozen=True, slots=True)
class Command:
    """A console command.

    Attributes:
        target: `module:function`; the module must not import torch, for --help's sake.
        examples: (command line, what it does), most common first.
        shorts: other names of flags; one letter goes after one dash.
    """

    name: str
    target: str
    examples: tuple[tuple[str, str], ...]
    shorts: Mapping[str, str] = field(default_factory=dict)

    def load_function(self) -> Callable[..., object]:
        """Import the command's function."""
        module, _, function = self.target.partition(":")
        loaded: Callable[..., object] = getattr(importlib.import_module(module), function)
        return loaded


def flags_of(function: Callable[..., object]) -> dict[str, Flag]:
    """Read the flags of a command from the signature of its function, in order; what is positional-only is no flag."""
    parameters = [parameter for parameter in _parameters(function) if not _is_program(parameter)]
    return {
        parameter.name: Flag(
            name=parameter.name,
            annotation=parameter.annotation,
            default=parameter.default,
            is_positional=parameter.kind is not inspect.Parameter.KEYWORD_ONLY,
        )
        for parameter in parameters
    }


def runs_program(function: Callable[..., object]) -> bool:
    """Whether a command takes the command line of another program, after `--`: as its positional-only parameter."""
    return any(_is_program(parameter) for parameter in _parameters(function))


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _is_program(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.POSITIONAL_ONLY
