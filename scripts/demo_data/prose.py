"""A little plain text, so that a bare prompt is continued like text."""

from random import Random

from scripts.demo_data.literals import bars
from scripts.demo_data.samples import PlainText
from scripts.demo_data.values import place

SUBJECTS = [
    "The model",
    "The weather",
    "This test",
    "A small program",
    "The city",
    "My friend",
    "The train",
    "The old house",
    "The river",
    "A good book",
]
VERBS = bars("is|was|looks|seems|remains|has been")
QUALITIES = [
    "very good",
    "quite small",
    "calm today",
    "easy to read",
    "new",
    "full of light",
    "better than before",
    "as old as the hills",
    "fast",
]
LINKS = bars("and|but|because|while|so")
OPENERS = (
    "This is a {n}.", "This is another {n}.", "This is a {n} of the system.", "Here is a short {n}.", "Today we look at a {n}.",
    "This is a third {n}, and it is very good.", "In {p} there is a {n}.", "Once there was a {n} in {p}.",
)  # fmt: skip
THINGS = [
    "test",
    "great test",
    "text",
    "story",
    "letter",
    "note",
    "small town",
    "garden",
    "new day",
    "good idea",
    "question",
    "lesson",
    "long way",
]


def clause(rng: Random) -> str:
    """Return a simple clause."""
    return f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(QUALITIES)}"


def prose(rng: Random) -> PlainText:
    """Return a paragraph of a few simple sentences."""
    parts = [rng.choice(OPENERS).replace("{n}", rng.choice(THINGS)).replace("{p}", place(rng))]
    for _ in range(rng.randint(2, 5)):
        text = clause(rng)
        if rng.random() < 0.5:
            follower = clause(rng)
            text += f" {rng.choice(LINKS)} {follower[:1].lower()}{follower[1:]}"
        parts.append(text + ".")
    return PlainText(" ".join(parts))
