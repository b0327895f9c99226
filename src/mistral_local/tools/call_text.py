"""What both written forms of a call have in common: what a name and what arguments are."""

from __future__ import annotations

import re
from typing import Any

from mistral_local.tools.json_text import read_json

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class NotACallError(ValueError):
    """The model began a call and wrote something else."""


def check_name(name: Any) -> str:
    """Return the name of a function, as mistral_common's validator has it.

    Raises:
        NotACallError: if it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NotACallError(f"no name of a function: {name!r}")
    return name


def check_object(text: str) -> str:
    """Return the text if it is a JSON object.

    Raises:
        NotACallError: if it is none.
    """
    try:
        is_object = isinstance(read_json(text), dict)
    except ValueError as error:
        raise NotACallError(f"no JSON: {error}") from error
    if not is_object:
        raise NotACallError("the arguments are no JSON object")
    return text


def is_no_arguments(text: str) -> bool:
    """Whether a model means by this text that there are no arguments."""
    return text.strip() in ("", '""', "null")
