"""Arithmetic on random numbers."""

from random import Random

from scripts.demo_data.kinds.base import Kind, Phrases, Values
from scripts.demo_data.literals import lines
from scripts.demo_data.values import decimal, integer

REPLY = "The answer is {output}."


def two(rng: Random) -> Values:
    draw = decimal if rng.random() < 0.2 else integer
    return {"a": draw(rng), "b": draw(rng)}


def two_whole(rng: Random) -> Values:
    return {"a": integer(rng), "b": integer(rng)}


def small_power(rng: Random) -> Values:
    return {"a": integer(rng, 3), "b": str(rng.randint(2, 30))}


def one(rng: Random) -> Values:
    return {"a": integer(rng, 7)}


def small(rng: Random) -> Values:
    return {"a": str(rng.randint(3, 60))}


def percent(rng: Random) -> Values:
    return {"a": str(rng.randint(1, 99)), "b": integer(rng, 6)}


def expression(rng: Random) -> Values:
    terms = [integer(rng, 4)]
    for _ in range(rng.randint(2, 4)):
        terms += [rng.choice("+-*"), integer(rng, 4)]
    if len(terms) == 5 and rng.random() < 0.4:
        terms = ["(" + terms[0], *terms[1:2], terms[2] + ")", *terms[3:]]
    return {"e": (" " if rng.random() < 0.8 else "").join(terms), "x": " ".join(terms)}


KINDS = (
    Kind(
        "add",
        "arithmetic",
        two,
        "print({a} + {b})",
        REPLY,
        Phrases(
            lines("""the sum of {a} and {b}
                  {a} + {b}
                  {a}+{b}
                  {a} added to {b}
                  the total of {a} and {b}"""),
            lines("""add {a} to {b}
                  add up {a} and {b}
                  sum {a} and {b}
                  put {a} and {b} together"""),
            lines("""what is {a} plus {b}
                  how much do {a} and {b} make
                  what do you get when you add {a} and {b}"""),
        ),
    ),
    Kind(
        "subtract",
        "arithmetic",
        two,
        "print({a} - {b})",
        REPLY,
        Phrases(
            lines("""{a} - {b}
                  {a} minus {b}
                  {a} less {b}
                  the difference between {a} and {b}"""),
            lines("""subtract {b} from {a}
                  take {b} away from {a}"""),
            lines("""what is {a} minus {b}
                  how much remains if I take {b} from {a}
                  what do you get when you subtract {b} from {a}"""),
        ),
    ),
    Kind(
        "multiply",
        "arithmetic",
        two,
        "print({a} * {b})",
        REPLY,
        Phrases(
            lines("""the product of {a} and {b}
                  {a} * {b}
                  {a}*{b}
                  {a} x {b}
                  {a} times {b}"""),
            lines("""multiply {a} by {b}
                  multiply {a} and {b}"""),
            lines("""what is {a} times {b}
                  how much is {a} multiplied by {b}
                  what do you get when you multiply {a} by {b}"""),
        ),
    ),
    Kind(
        "divide",
        "arithmetic",
        two,
        "print({a} / {b})",
        REPLY,
        Phrases(
            lines("""{a} / {b}
                  {a} over {b}
                  the quotient of {a} and {b}"""),
            lines("""divide {a} by {b}
                  split {a} into {b} equal parts"""),
            lines("""what is {a} divided by {b}
                  how much is {a} over {b}
                  what do you get when you divide {a} by {b}"""),
        ),
    ),
    Kind(
        "power",
        "arithmetic",
        small_power,
        "print({a} ** {b})",
        REPLY,
        Phrases(
            lines("""{a} ** {b}
                  {a}^{b}
                  {a} to the {b}th power"""),
            lines("""raise {a} to the power {b}
                  raise {a} to the {b}th power"""),
            lines("""what is {a} to the power of {b}
                  how large is {a} to the power {b}"""),
        ),
    ),
    Kind(
        "remainder",
        "arithmetic",
        two_whole,
        "print({a} % {b})",
        REPLY,
        Phrases(
            lines("""{a} % {b}
                  {a} mod {b}
                  the remainder of {a} divided by {b}"""),
            lines("""find the remainder of {a} by {b}
                  take {a} modulo {b}"""),
            lines("""what remains after dividing {a} by {b}
                  what is the remainder when {a} is divided by {b}"""),
        ),
    ),
    Kind(
        "root",
        "arithmetic",
        one,
        "import math\nprint(math.sqrt({a}))",
        REPLY,
        Phrases(
            lines("""the square root of {a}
                  sqrt({a})
                  the root of {a}"""),
            lines("""take the square root of {a}
                  take the root of {a}"""),
            lines("""what is the square root of {a}
                  which number squared gives {a}"""),
        ),
    ),
    Kind(
        "factorial",
        "arithmetic",
        small,
        "import math\nprint(math.factorial({a}))",
        REPLY,
        Phrases(
            lines("""the factorial of {a}
                  {a}!
                  {a} factorial"""),
            lines("""take the factorial of {a}
                  multiply all numbers from 1 to {a}"""),
            lines("""what is the factorial of {a}
                  how many ways are there to order {a} things"""),
        ),
    ),
    Kind(
        "gcd",
        "arithmetic",
        two_whole,
        "import math\nprint(math.gcd({a}, {b}))",
        REPLY,
        Phrases(
            lines("""the greatest common divisor of {a} and {b}
                  the gcd of {a} and {b}
                  gcd({a}, {b})"""),
            lines("""find the largest common divisor of {a} and {b}
                  take the gcd of {a} and {b}"""),
            lines("""what is the gcd of {a} and {b}
                  which is the largest number dividing {a} and {b}"""),
        ),
    ),
    Kind(
        "percent",
        "arithmetic",
        percent,
        "print({b} * {a} / 100)",
        REPLY,
        Phrases(
            lines("""{a}% of {b}
                  {a} percent of {b}"""),
            lines("""take {a}% of {b}
                  take {a} percent of {b}"""),
            lines("""how much is {a}% of {b}
                  what is {a} percent of {b}"""),
        ),
    ),
    Kind(
        "expression",
        "arithmetic",
        expression,
        "print({x})",
        REPLY,
        Phrases(
            lines("""{e}
                  the value of {e}
                  the result of {e}"""),
            lines("""evaluate {e}
                  compute {e}
                  solve {e}"""),
            lines("""what is {e}
                  how much is {e}
                  what does {e} give"""),
        ),
    ),
)
