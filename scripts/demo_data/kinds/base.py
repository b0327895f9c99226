"""A kind of question that a short Python program answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

Values = dict[str, str]  # slot name -> text, as it stands in the question and in the program


@dataclass(frozen=True, slots=True)
class Phrases:
    """Ways to ask, with slots; nouns fit "Tell me {}", orders fit "Please {}", questions fit "{}?"."""

    nouns: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of question, without its phrasing."""

    name: str
    group: str  # the row of the report it counts for
    values: Callable[[Random], Values]
    code: str  # a program with slots
    reply: str  # the answer, with {output} for what the program printed
    phrases: Phrases  # those of the training set


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values into slots; braces without a known name stay."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template
