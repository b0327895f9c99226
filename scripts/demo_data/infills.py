"""Short Python functions with a hole, for fill-in-the-middle."""

from dataclasses import dataclass
from random import Random

from scripts.demo_data.literals import words
from scripts.demo_data.samples import Infill
from scripts.demo_data.values import syllables, word

VERBS = words(
    "combine join merge make take keep mix scale shift double split mean trim clean pack fold wrap blend gather stack "
    "collect attach append unite"
)
RESULTS = words("result total value out answer res y number combined final")
PARAMETERS = words("a b c x y z n m k value values items item other left right first second text name count numbers")


@dataclass(frozen=True, slots=True)
class Names:
    """The identifiers of one function."""

    function: str
    one: str
    two: str
    out: str
    constant: str


def identifiers(rng: Random, functions: list[str], results: list[str]) -> Names:
    """Draw distinct identifiers."""
    one, two = rng.sample(PARAMETERS, 2) if rng.random() < 0.8 else (f"{word(rng)}_a", f"{word(rng)}_b")
    out = rng.choice([name for name in results if name not in (one, two)])
    return Names(rng.choice(functions), one, two, out, str(rng.randint(2, 99)))


BODIES = (
    "def {f}({a}, {b}):\n    {r} = {a} {op} {b}\n    return {r}\n",
    "def {f}({a}, {b}):\n    {r} = {a} {op} {b}\n    return {r}\n",
    "def {f}({a}, {b}):\n    return {a} {op} {b}\n",
    "def {f}({a}):\n    return {a} {op} {n}\n",
    "def {f}({a}):\n    {r} = {a} {op} {n}\n    return {r}\n",
    "def {f}({a}, {b}={n}):\n    {r} = {a} {op} {b}\n    return {r}\n",
    "def {f}({a}: int, {b}: int) -> int:\n    {r} = {a} {op} {b}\n    return {r}\n",
    "def {f}({a}: int, {b}: int) -> int:\n    return {a} {op} {b}\n",
    "def {f}({a}):\n    {r} = 0\n    for {b} in {a}:\n        {r} += {b}\n    return {r}\n",
    "def {f}({a}):\n    {r} = []\n    for {b} in {a}:\n        {r}.append({b} {op} {n})\n    return {r}\n",
    "def {f}({a}, {b}):\n    if {a} > {b}:\n        return {a}\n    return {b}\n",
    "def {f}({a}):\n    if {a} < {n}:\n        return {n}\n    return {a}\n",
    "def {f}({a}):\n    return [{b} {op} {n} for {b} in {a}]\n",
    "def {f}({a}):\n    \"\"\"Return the {d}.\"\"\"\n    return {a} {op} {n}\n",
    "def {f}({a}, {b}):\n    \"\"\"Return the {d}.\"\"\"\n    {r} = {a} {op} {b}\n    return {r}\n",
    "def {f}({a}):\n    {r} = len({a})\n    return {r}\n",
    "def {f}({a}):\n    print({a})\n    return {a}\n",
    "def {f}({a}, {b}):\n    print({a}, {b})\n    return {a} {op} {b}\n",
    "def {f}({a}):\n    {r} = sorted({a})\n    return {r}[0]\n",
    "def {f}({a}):\n    while {a} > {n}:\n        {a} -= {n}\n    return {a}\n",
)  # fmt: skip


def function_text(rng: Random, body: str, names: Names) -> str:
    """Return the source of a function."""
    slots = {"f": names.function, "a": names.one, "b": names.two, "r": names.out, "n": names.constant}
    slots |= {"op": rng.choice("+-*"), "d": f"{word(rng)} of {names.one}"}
    for slot, value in slots.items():
        body = body.replace("{" + slot + "}", value)
    return body if rng.random() < 0.5 else body.rstrip("\n")


def cut(rng: Random, source: str) -> Infill:
    """Cut a hole: after the opening bracket, at line ends, or around a piece of a line; the middle is not empty."""
    bracket, body = source.index("(") + 1, source.index("\n") + 1
    starts = [i + 1 for i, c in enumerate(source[:-2]) if c in " \n(=" and i + 1 >= bracket]
    start = rng.choice((bracket, body, rng.choice(starts), rng.choice(starts)))
    line_starts = [i + 1 for i, c in enumerate(source) if c == "\n" and i + 1 > start]
    stops = [i for i, c in enumerate(source) if c in "\n)]:" and i > start] + [len(source)]
    end = rng.choice(line_starts) if line_starts and rng.random() < 0.6 else rng.choice(stops)
    return Infill(source[:start], source[start:end], source[end:])


def infill(rng: Random) -> Infill:
    """Return a training sample."""
    name = rng.choice(VERBS) if rng.random() < 0.4 else rng.choice((word(rng), syllables(rng)))
    functions = [name, f"{name}_{word(rng)}", f"{rng.choice(VERBS)}_{name}"]
    results = RESULTS if rng.random() < 0.5 else [word(rng), syllables(rng) + "_"]
    source = function_text(rng, rng.choice(BODIES), identifiers(rng, functions, [*results, "outcome"]))
    return cut(rng, source)
