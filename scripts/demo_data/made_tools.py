"""Tools from a huge synthetic space, the requests that need them, and the calls."""

import json
from dataclasses import dataclass
from random import Random

from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.tool_calls import Tool

from scripts.demo_data.alternatives import vary
from scripts.demo_data.frames import hasty
from scripts.demo_data.heldout.reserved import TOOLS
from scripts.demo_data.literals import lines, words
from scripts.demo_data.roles import (
    ROLES,
    Argument,
    choice_argument,
    named_argument,
    optional_argument,
    pair_arguments,
    role_argument,
)
from scripts.demo_data.samples import Message, calls, make_tool, result, says
from scripts.demo_data.values import decimal, integer, place, title, vocabulary_words, word

VERBS = words(
    "find show open create fetch list start check order play read update delete print measure plan track get lookup "
    "search add book cancel compare schedule share send buy make save load query view register report"
)
NOUNS = words(
    "report ticket forecast traffic menu lesson parcel photo garden route meeting invoice score painting lamp channel "
    "library engine harbor concert hotel train bus budget calendar folder playlist survey account tide snow wind air "
    "quality climate humidity sunrise rainfall pollen sensor camera robot pizza coffee bread ship flight movie book"
)
OPENINGS = lines("""{r}
    {r}
    (Please|Now|Next,|Kindly) {r}
    (Can|Could|Would) you (|please ){r}
    I (want|need|would like|have) to {r}
    I (want|need|would like) you to {r}
    (Help me|Let us|Let me|Go and|Try to) {r}
    (Hi|Hello|Hey), (please|can you|could you) {r}""")
ASKING = lines("""(What is|What's|How is) the {n}
    (What is|What's|How is) the {n} like
    (Tell|Show|Give|Get|Find) me the {n}
    I (need|want|would like|would like to know|am looking for) (the|a) {n}
    (Do you know|Can you tell me|Could you look up|Look up|Check) the {n}
    (Let me|I want to) (see|have|know) the {n}
    (How is|What about|Any news on) the {n}""")
ARTICLES = ("the ", "a ", "my ", "some ", "")
WHEN = (" today", " now", " right now", " tomorrow", " please")


@dataclass(frozen=True, slots=True)
class MadeTool:
    """A tool and one way to speak of it."""

    tool: Tool
    verb: str
    noun: str
    arguments: tuple[Argument, ...]


def draw_arguments(rng: Random) -> list[Argument]:
    """Draw the arguments of a tool, in the order of the schema."""
    draw = rng.random()
    if draw < 0.2:
        arguments = pair_arguments(rng)
        if rng.random() < 0.6:
            arguments.insert(rng.choice((0, 2)), role_argument(rng, rng.choice(ROLES)))
    elif draw < 0.4:
        arguments = [named_argument(rng) for _ in range(rng.randint(1, 3))]
    else:
        arguments = [role_argument(rng, role) for role in rng.sample(ROLES, rng.choice((1, 1, 2, 2, 3)))]
    if rng.random() < 0.4:
        arguments.append(choice_argument(rng))
    if rng.random() < 0.15:
        arguments.append(optional_argument(rng))
    unique = {argument.name: argument for argument in arguments}
    return list(unique.values())


def tool_name(rng: Random, verb: str, noun: str) -> str:
    """Return a name in one of the usual styles, outside of the reserved ones."""
    parts = [verb, *noun.split()] if rng.random() < 0.85 else [*noun.split(), verb]
    if rng.random() < 0.3:
        parts.insert(1, rng.choice(("current", "new", "my", "the", "all", "next", word(rng))))
    camel = parts[0] + "".join(p.capitalize() for p in parts[1:])
    name = camel if rng.random() < 0.1 else "_".join(parts)
    return name if name not in TOOLS else name + "_now"


def draw_noun(rng: Random) -> str:
    """Return what the tool is about: one or two words, real or made up."""
    draws = (lambda: rng.choice(NOUNS), lambda: rng.choice(vocabulary_words()).lower(), lambda: word(rng))
    return " ".join(rng.choice(draws)() for _ in range(rng.choice((1, 1, 2))))


def draw_tool(rng: Random) -> MadeTool:
    """Draw a tool."""
    verb, noun = rng.choice(VERBS), draw_noun(rng)
    arguments = draw_arguments(rng)
    description = rng.choice((
        f"{verb.capitalize()} the {noun}", f"{verb.capitalize()} a {noun}.", f"Use this to {verb} the {noun}.",
        f"{verb.capitalize()}s the {noun} with the given {arguments[0].name.replace('_', ' ')}",
    ))  # fmt: skip
    required = [argument.name for argument in arguments if argument.is_required]
    schema = {
        "type": "object",
        "properties": {argument.name: argument.schema for argument in arguments},
        "required": required,
    }
    return MadeTool(make_tool(tool_name(rng, verb, noun), description, schema), verb, noun, tuple(arguments))


def request(rng: Random, made: MadeTool, mentions: list[str]) -> str:
    """Return the user's words for a call."""
    if rng.random() < 0.45:
        head, mark = vary(rng, rng.choice(ASKING)).replace("{n}", made.noun), "?"
        head += rng.choice(WHEN) if rng.random() < 0.3 else ""
    else:
        verb = made.verb if rng.random() < 0.8 else rng.choice(VERBS)
        order = f"{verb} {rng.choice(ARTICLES)}{made.noun}"
        head, mark = vary(rng, rng.choice(OPENINGS)).replace("{r}", order), "."
    text = " ".join([head, *filter(None, mentions)]).replace(" ,", ",").replace(" :", ":")
    return hasty(rng, text[:1].upper() + text[1:] + mark)


def measure(rng: Random) -> str:
    """Return a number with a unit."""
    return decimal(rng) + rng.choice(("°C", "°", "%", " km", " USD", ""))


def outcome(rng: Random) -> tuple[str, str]:
    """Return what a tool gives back, and how the answer says it."""
    if rng.random() < 0.4:
        value = rng.choice((integer(rng, 4), word(rng), title(rng), f"{integer(rng, 2)} {word(rng)}", measure(rng)))
        return value, f"The result is {value}."
    pairs: dict[str, str | int] = {}
    for _ in range(rng.randint(1, 3)):
        pairs[word(rng)] = (
            int(integer(rng, 4)) if rng.random() < 0.5 else rng.choice((word, title, measure, place))(rng)
        )
    return json.dumps(pairs, ensure_ascii=False), "I found: " + ", ".join(
        f"{key} {value}" for key, value in pairs.items()
    ) + "."


def made_turn(rng: Random, made: MadeTool) -> list[Message]:
    """Return a request, the call of the tool, its result and the reply."""
    name = made.tool.function.name
    if len(made.arguments) == 1 and "in " in made.arguments[0].say(rng)[1] and rng.random() < 0.3:
        return parallel_turn(rng, made)
    said = [argument.say(rng) for argument in made.arguments]
    given = {a.name: value for a, (value, _) in zip(made.arguments, said, strict=True) if value is not None}
    question = request(rng, made, [mention for _, mention in said])
    content, reply = outcome(rng)
    return [UserMessage(content=question), calls((name, given)), result(name, content), says(reply)]


def parallel_turn(rng: Random, made: MadeTool) -> list[Message]:
    """Return a request for two places, both calls in one message, their results and the reply."""
    name, argument = made.tool.function.name, made.arguments[0].name
    places = [place(rng), place(rng)]
    question = request(rng, made, [f"in {places[0]}", f"and {places[1]}"])
    outcomes = [outcome(rng), outcome(rng)]
    results = [result(name, content, i) for i, (content, _) in enumerate(outcomes)]
    reply = says(" ".join(text for _, text in outcomes))
    return [UserMessage(content=question), calls(*((name, {argument: p}) for p in places)), *results, reply]
