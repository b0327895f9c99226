"""Turn the text of a flag or a setting into a value of its declared type."""

import math
import shlex
import types
from typing import Any, Literal, Union, get_args, get_origin

from mistral_local.errors import UsageError

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")


def without_none(annotation: Any) -> tuple[Any, bool]:
    """Return the type without its `None` alternative, and whether it had one."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    others = [kind for kind in get_args(annotation) if kind is not types.NoneType]
    assert len(others) == 1, f"a flag has one type and perhaps None, not {annotation}"
    return others[0], len(others) < len(get_args(annotation))


def parse_value(name: str, annotation: Any, text: str) -> Any:
    """Read `text` as the declared type: str, int, float, bool, a Literal or tuple[str, ...].

    Strings stay as they are: `123` and `[1,2]` are text. `none` stands for None where the type allows it and is no string.

    Raises:
        UsageError: if the text is no such value; the message begins with `name`.
    """
    kind, optional = without_none(annotation)
    if kind is str:
        return text
    if optional and text.lower() == "none":
        return None
    if get_origin(kind) is Literal:
        return _one_of(name, text, get_args(kind))
    if get_origin(kind) is tuple:
        return _words(name, text)
    if kind is bool:
        return _truth(name, text)
    assert kind in (int, float), f"no reader for {annotation}"
    return _number(name, text, kind)


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise UsageError(f"{name}: expected {', '.join(choices[:-1])} or {choices[-1]}, got {text!r}")
    return text


def _words(name: str, text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{name}: {error}".lower() + f" in {text!r}") from error


def _truth(name: str, text: str) -> bool:
    if text.lower() in TRUE_WORDS:
        return True
    if text.lower() in FALSE_WORDS:
        return False
    raise UsageError(f"{name}: expected true or false, got {text!r}")


def _number(name: str, text: str, kind: type[int] | type[float]) -> int | float:
    expected = "a whole number" if kind is int else "a number"
    try:
        number = kind(text)
    except ValueError:
        raise UsageError(f"{name}: expected {expected}, got {text!r}") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise UsageError(f"{name}: expected {expected}, got {text!r}")
    return number
