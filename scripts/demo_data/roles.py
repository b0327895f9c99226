"""Arguments of made-up tools: what they are called, how a user mentions them, and their schema."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from scripts.demo_data.alternatives import vary
from scripts.demo_data.heldout.reserved import ARGUMENTS
from scripts.demo_data.literals import lines, words
from scripts.demo_data.values import (
    decimal,
    integer,
    isodate,
    person,
    phrase,
    place,
    syllables,
    title,
    vocabulary_words,
    word,
)

Said = tuple[str | int | float | None, str]  # the value of an argument (None: left out); the user's words for it


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a tool, and how calls fill it."""

    name: str
    schema: dict[str, Any]
    say: Callable[[Random], Said]
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Role:
    """A family of arguments that are mentioned alike."""

    names: tuple[str, ...]
    mentions: tuple[str, ...]  # with {v} for the value, {n} for the name, and alternatives
    draw: Callable[[Random], str]
    type: str = "string"


def identifier(rng: Random) -> str:
    """Return a code such as QX-4821, a telephone number or a time."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    return rng.choice(
        (
            letters + rng.choice(("-", "")) + integer(rng, 5),
            f"{rng.randint(100, 999)}-{rng.randint(100, 9999)}",
            f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        )
    )


ROLES = (
    Role(
        words("place town area region spot where district country address village"),
        lines("(in|in|in|at|near|around|for|from|to|of) {v}"),
        place,
    ),
    Role(
        words("person who customer friend member user owner client employee writer player"),
        lines("(for|with|to|of|by|from) {v}"),
        person,
    ),
    Role(
        words("count quantity copies seats pieces num_items size repeat rooms"),
        lines("""{v} times
            with {v} (pieces|seats|units|parts)
            , {v} (of them|in all|pieces)
            (to|for|of) {v}"""),
        lambda rng: integer(rng, 3),
        "integer",
    ),
    Role(
        words(
            "seconds days weeks months pages boxes bottles steps meters points people tickets nights grams cups percent"
        ),
        lines("""(for|with|of|to|by) {v} {n}
            {v} {n}
            , {v} {n}"""),
        lambda rng: integer(rng, 3),
        "integer",
    ),
    Role(words("day when start_day due_day on_day deadline"), lines("(on|for|by|from) {v}"), isodate),
    Role(
        words("topic about query keyword term theme name item product song"),
        lines("""(about|on|called|named|with|using|for) {v}
            (named |called |)'{v}'
            "{v}"
            {v}"""),
        lambda rng: rng.choice((word, phrase, place))(rng),
    ),
    Role(
        words("note content words line reminder description comment"),
        lines("""(saying|with) '{v}'
            (that says|saying) "{v}"
            '{v}'
            with the words "{v}"
            : {v}"""),
        phrase,
    ),
    Role(
        words("into tongue dialect output_style version shape"),
        lines("(to|into|in) {v}"),
        lambda rng: rng.choice((title, word))(rng),
    ),
    Role(
        words("price budget cost max_price weight length_km speed"),
        lines("(below|for at most|of|under|for|with) {v}"),
        decimal,
        "number",
    ),
    Role(
        words("code id order_id number ticket reference tag"),
        lines("(with number|number|for|of|) {v}"),
        identifier,
    ),
)
PAIRS = (("start", "end"), ("source", "target"), ("departure", "arrival"), ("first", "last"), ("old_name", "new_name"))
OPTIONS = (
    ("small", "medium", "large"), ("metric", "imperial"), ("low", "normal", "high"), ("red", "green", "blue"),
    ("short", "long"), ("json", "text"), ("public", "private"), ("economy", "business"), ("kilometers", "miles"),
)  # fmt: skip
EXPLICIT = (
    "with {n} {v}",
    "{n} {v}",
    "and {n} {v}",
    "(the|this) {n} {v}",
    "of {n} {v}",
    "on the {n} {v}",
    "with {n} {v}",
    "where {n} is {v}",
    "with the {n} {v}",
    "and {n} {v}",
    "{n}: {v}",
    "using {v} as {n}",
    "{n} = {v}",
)


def made_up_name(rng: Random) -> str:
    """Return an argument name nobody has seen, outside of those reserved for the held-out tools."""
    while True:
        draws = (lambda: rng.choice(vocabulary_words()).lower(), lambda: word(rng), lambda: syllables(rng))
        name = "_".join(rng.choice(draws)() for _ in range(rng.choice((1, 1, 2))))
        if name not in ARGUMENTS:
            return name


def describe(rng: Random, name: str, draw: Callable[[Random], str]) -> dict[str, Any]:
    """Return a description to merge into a schema; the example in it must not be copied."""
    said = name.replace("_", " ")
    text = rng.choice((f"The {said}", f"The {said} to use", f"{said.capitalize()}", f"The {said} as given by the user"))
    if rng.random() < 0.45:
        text += f", e.g. {draw(rng)}"
    return {"description": text} if rng.random() < 0.85 else {}


def convert(text: str, kind: str) -> str | int | float:
    """Return the JSON value of a mention."""
    if kind == "integer":
        return int(text)
    return (float(text) if "." in text else int(text)) if kind == "number" else text


def role_argument(rng: Random, role: Role) -> Argument:
    """Draw an argument that is mentioned by a preposition or a quotation."""
    name = rng.choice(role.names)
    if rng.random() < 0.25:
        name = f"{rng.choice((word(rng), syllables(rng)))}_{name}"
    is_required = rng.random() < 0.85

    def say(rng: Random) -> Said:
        if not is_required and rng.random() < 0.5:
            return None, ""
        text = role.draw(rng)
        mention = vary(rng, rng.choice(role.mentions)).replace("{n}", name.replace("_", " "))
        return convert(text, role.type), mention.replace("{v}", text)

    return Argument(name, {"type": role.type} | describe(rng, name, role.draw), say, is_required)


def named_argument(rng: Random) -> Argument:
    """Draw an argument with a made-up name, which the user says."""
    name = made_up_name(rng)
    role = rng.choice(ROLES)

    def say(rng: Random) -> Said:
        text = role.draw(rng)
        mention = vary(rng, rng.choice(EXPLICIT)).replace("{n}", name.replace("_", " "))
        return convert(text, role.type), mention.replace("{v}", text)

    return Argument(name, {"type": role.type} | describe(rng, name, role.draw), say)


def choice_argument(rng: Random) -> Argument:
    """Draw an enumeration: a call takes the option the user names, or the first one."""
    names = ("mode", "style", "kind", "unit", "level", "color", "units", "variant", "system", made_up_name(rng))
    name = rng.choice(names)
    options = list(rng.choice(OPTIONS)) if rng.random() < 0.5 else [word(rng) for _ in range(rng.randint(2, 4))]
    rng.shuffle(options)

    def say(rng: Random) -> Said:
        if rng.random() < 0.5:
            return options[0], ""
        value = rng.choice(options)
        mention = rng.choice(("in {v}", "as {v}", "with {n} {v}", "({v})", "in {v} {n}"))
        return value, mention.replace("{v}", value).replace("{n}", name)

    return Argument(name, {"type": "string", "enum": options} | describe(rng, name, lambda r: r.choice(options)), say)


def pair_arguments(rng: Random) -> list[Argument]:
    """Draw two arguments mentioned as "from ... to ..."."""
    names = rng.choice(PAIRS) if rng.random() < 0.6 else (f"from_{(tail := syllables(rng))}", f"to_{tail}")
    draw = rng.choice((place, word, person, isodate))

    def saying(preposition: str) -> Callable[[Random], Said]:
        def say(rng: Random) -> Said:
            text = draw(rng)
            return text, f"{preposition} {text}"

        return say

    says = (saying("from"), saying("to"))
    return [Argument(n, {"type": "string"} | describe(rng, n, draw), say) for n, say in zip(names, says, strict=True)]


def optional_argument(rng: Random) -> Argument:
    """Draw an optional argument that users do not mention."""
    name = made_up_name(rng)
    schema = {"type": rng.choice(("string", "integer"))} | describe(rng, name, word)
    return Argument(name, schema, lambda rng: (None, ""), is_required=False)
