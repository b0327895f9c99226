"""Phrases with alternatives, such as "the (sum|total) of {a}": one chosen at random, or all of them."""

import re
from collections.abc import Iterator
from itertools import product
from random import Random

GROUP = re.compile(r"\(([^()]*\|[^()]*)\)")  # round brackets without a bar stay text


def vary(rng: Random, phrase: str) -> str:
    """Return the phrase with one alternative of each group."""
    return tidy(GROUP.sub(lambda group: rng.choice(group[1].split("|")), phrase))


def expansions(phrase: str) -> Iterator[str]:
    """Yield every text the phrase stands for."""
    parts = [part.split("|") if i % 2 else [part] for i, part in enumerate(GROUP.split(phrase))]
    return (tidy("".join(chosen)) for chosen in product(*parts))


def tidy(text: str) -> str:
    """Remove the blanks that an empty alternative leaves."""
    return re.sub("  +", " ", text).strip().replace(" ?", "?").replace(" .", ".").replace(" ,", ",")
