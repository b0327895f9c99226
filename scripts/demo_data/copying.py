"""Drills in the chat format that teach to copy digits and words; the curriculum starts with them."""

import json
from collections.abc import Callable
from random import Random

from mistral_common.protocol.instruct.messages import UserMessage

from scripts.demo_data.samples import Message, says
from scripts.demo_data.values import decimal, integer, person, phrase, place, title, word

ECHOES = (
    "Repeat: {}",
    "Say {}",
    "Repeat after me: {}",
    "Copy {}",
    "Echo {}.",
    "Say the following: {}",
    "Write {} once more.",
)


def fraction(rng: Random) -> str:
    """Return a quotient with all its digits, often repeating ones."""
    return str(rng.randint(1, 9999) / rng.randint(1, 999))


def capitals(rng: Random) -> str:
    """Return a word in capitals, here and there backwards."""
    text = word(rng).upper()
    return text[::-1] if rng.random() < 0.3 else text


DRAWS: tuple[Callable[[Random], str], ...] = (
    integer,
    integer,
    decimal,
    fraction,
    word,
    word,
    title,
    capitals,
    person,
    place,
    phrase,
)


def echo(rng: Random) -> tuple[str, str]:
    """Repeat one or more values."""
    values = " ".join(rng.choice(DRAWS)(rng) for _ in range(rng.choice((1, 1, 2, 3))))
    return rng.choice(ECHOES).replace("{}", values), values


def long_echo(rng: Random) -> tuple[str, str]:
    """Repeat a list of numbers, random or rising, as a long tool output must be."""
    if rng.random() < 0.5:
        most = rng.randint(1, 6)
        numbers = [integer(rng, most) for _ in range(rng.randint(4, 14))]
    else:
        start, step = rng.randint(0, 999), rng.choice((1, 1, 2, 3, rng.randint(1, 300)))
        numbers = [str(start + i * step) for i in range(rng.randint(4, 30))]
    values = "[" + ", ".join(numbers) + "]"
    return rng.choice(ECHOES).replace("{}", values), values


def listing(rng: Random) -> tuple[str, str]:
    """Turn a spoken list into a Python list."""
    if rng.random() < 0.5:
        items = [integer(rng, 4) for _ in range(rng.randint(2, 7))]
        return "List: " + ", ".join(items), "[" + ", ".join(items) + "]"
    items = [word(rng) for _ in range(rng.randint(2, 5))]
    return "List: " + ", ".join(items), "[" + ", ".join(map(repr, items)) + "]"


def swap(rng: Random) -> tuple[str, str]:
    """Say two values in the other order."""
    first, second = (rng.choice(DRAWS)(rng) for _ in range(2))
    return f"Swap {first} and {second}", f"{second} and {first}"


def quoting(rng: Random) -> tuple[str, str]:
    """Turn a value into a print statement."""
    value = rng.choice((word, title, place, phrase))(rng)
    return rng.choice(("Print {}", "Quote {}", "Quote '{}'")).replace("{}", value), f"print('{value}')"


def record(rng: Random) -> tuple[str, str]:
    """Turn named values into a JSON object."""
    pairs = {word(rng): rng.choice(DRAWS)(rng) for _ in range(rng.randint(1, 3))}
    text = rng.choice((", ", " and ")).join(f"{name} {value}" for name, value in pairs.items())
    return f"Record: {text}", json.dumps(pairs)


def pick(rng: Random) -> tuple[str, str]:
    """Recall the value that belongs to a name."""
    pairs = {word(rng): rng.choice((integer, word, title))(rng) for _ in range(rng.randint(2, 5))}
    name = rng.choice(list(pairs))
    return ", ".join(f"{key}: {value}" for key, value in pairs.items()) + f". Which is {name}?", pairs[name]


DRILLS = (echo, echo, long_echo, listing, swap, quoting, quoting, record, record, pick)


def drill_turn(rng: Random) -> list[Message]:
    """Return one drill."""
    question, answer = rng.choice(DRILLS)(rng)
    return [UserMessage(content=question), says(answer)]
