"""A function call that a model wrote."""

import secrets
import string
from dataclasses import dataclass

_ID_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks to be called.

    Attributes:
        id: nine letters and digits, unique in the conversation.
        name: the function's name as the model wrote it.
        arguments: its arguments as the JSON text that the model wrote.
    """

    id: str
    name: str
    arguments: str


def new_call_id() -> str:
    """A fresh id in the form that mistral_common accepts: nine of [a-zA-Z0-9]."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(9))
