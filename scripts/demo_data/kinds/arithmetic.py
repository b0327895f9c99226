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
            lines("""(the sum|the total|the exact sum|the addition|the grand total) of {a} and {b}
                  {a}(+| + ){b}
                  {a} (added to|and also|together with|increased by) {b}
                  (the value|the outcome|the total) of {a} (+|plus) {b}
                  what {a} (plus|and) {b} (make|makes|is|gives)"""),
            lines("""(add|please add) {a} (to|and) {b}
                  (add up|sum up|sum|total) {a} and {b}
                  put {a} and {b} together
                  (calculate|work out|determine) {a} (+|plus) {b}"""),
            lines("""what is {a} (plus|added to) {b}
                  how much (do|would) {a} and {b} (make|give)
                  what do (you|I|we) get when (you|I|we) add {a} (and|to) {b}
                  what does {a} (+|plus) {b} (make|give|equal)
                  how large is the sum of {a} and {b}"""),
        ),
    ),
    Kind(
        "subtract",
        "arithmetic",
        two,
        "print({a} - {b})",
        REPLY,
        Phrases(
            lines("""{a}( - |-){b}
                  {a} (minus|less|reduced by|decreased by) {b}
                  the (difference between|difference of) {a} and {b}
                  (the value|the outcome|the end result) of {a} (-|minus) {b}
                  what {a} (minus|take away) {b} (is|gives|leaves)
                  what is left of {a} (without|after taking away) {b}"""),
            lines("""(subtract|deduct|take) {b} from {a}
                  take {b} away from {a}
                  (calculate|work out|determine) {a} (-|minus) {b}
                  (lower|reduce|decrease) {a} by {b}"""),
            lines("""what is {a} (minus|less|take away) {b}
                  how much (remains|is left) if I take (away|) {b} from {a}
                  what do (you|we|I) get when (you|we|I) subtract {b} from {a}
                  what does {a} (-|minus) {b} (make|give|equal)
                  how large is the difference between {a} and {b}"""),
        ),
    ),
    Kind(
        "multiply",
        "arithmetic",
        two,
        "print({a} * {b})",
        REPLY,
        Phrases(
            lines("""(the product|the exact product|the multiplication) of {a} and {b}
                  {a}(*| * | x |x){b}
                  {a} (times|multiplied with) {b}
                  (the value|the outcome|the end result) of {a} (*|times|multiplied by) {b}
                  what {a} (times|multiplied by) {b} (is|gives|makes)
                  {b} times the number {a}"""),
            lines("""multiply {a} (by|and|with) {b}
                  (calculate|work out|determine) {a} (*|times|multiplied by) {b}
                  (build|form) the product of {a} and {b}"""),
            lines("""what is {a} (times|multiplied by|multiplied with) {b}
                  how much is {a} (multiplied by|x) {b}
                  what do (you|we|I) get when (you|we|I) multiply {a} (by|and) {b}
                  what does {a} (*|times) {b} (make|give|equal)
                  how large is the product of {a} and {b}"""),
        ),
    ),
    Kind(
        "divide",
        "arithmetic",
        two,
        "print({a} / {b})",
        REPLY,
        Phrases(
            lines("""{a}( / |/){b}
                  {a} (over|split by|shared by) {b}
                  the (quotient of|ratio of|division of) {a} (and|by) {b}
                  (the value|the outcome|the end result) of {a} (/|divided by) {b}
                  what {a} divided by {b} (is|gives|makes)
                  {a} divided by {b} (as a decimal|with all digits)"""),
            lines("""divide {a} by {b}
                  (split|share) {a} into {b} equal parts
                  (calculate|work out|determine) {a} (/|divided by|over) {b}"""),
            lines("""what is {a} (divided by|over) {b}
                  how much is {a} (over|split by|/) {b}
                  what do (you|we|I) get when (you|we|I) divide {a} by {b}
                  what does {a} (/|divided by) {b} (make|give|equal)
                  how large is {a} divided by {b}"""),
        ),
    ),
    Kind(
        "power",
        "arithmetic",
        small_power,
        "print({a} ** {b})",
        REPLY,
        Phrases(
            lines("""{a}( ** |**|^| ^ ){b}
                  {a} to the {b}th (power|)
                  {a} (raised to|raised to the power|to the power of) {b}
                  (the value|the outcome|the end result) of {a} (**|to the power|raised to) {b}
                  the {b}th power of {a}"""),
            lines("""raise {a} to the (power {b}|power of {b}|{b}th power)
                  (calculate|work out|determine) {a} (**|to the power|to the power of) {b}
                  multiply {a} {b} times by itself"""),
            lines("""what is {a} (to the power of|raised to|to the power) {b}
                  how (large|much|big) is {a} (to the power|to the power of|raised to) {b}
                  what does {a} (**|to the power) {b} (make|give|equal)"""),
        ),
    ),
    Kind(
        "remainder",
        "arithmetic",
        two_whole,
        "print({a} % {b})",
        REPLY,
        Phrases(
            lines("""{a}( % |%| mod ){b}
                  the remainder (of {a} divided by {b}|of {a} by {b}|after dividing {a} by {b})
                  the (rest|remainder) (when|if) (you|we) divide {a} by {b}
                  (the value|the outcome|the end result) of {a} (%|mod|modulo) {b}
                  what (remains|is left) when {a} is divided by {b}"""),
            lines("""find the (remainder|rest) of {a} (by|divided by) {b}
                  (take|calculate|work out) {a} (modulo|mod|%) {b}"""),
            lines("""what (remains|is left) (after|when) dividing {a} by {b}
                  what is (the remainder|the rest) when {a} is divided by {b}
                  what is {a} (mod|modulo|%) {b}
                  how much is left of {a} modulo {b}"""),
        ),
    ),
    Kind(
        "root",
        "arithmetic",
        one,
        "import math\nprint(math.sqrt({a}))",
        REPLY,
        Phrases(
            lines("""(the square root|the root|the exact square root|the positive square root) of {a}
                  sqrt({a})
                  square root (of|from|for) {a}
                  the side of a square (of|with) area {a}
                  (the value|the outcome|the end result) of the square root of {a}"""),
            lines("""(take|find|calculate|work out|determine) the (square root|root) of {a}"""),
            lines("""what is the (square root|root) of {a}
                  which number (squared gives|times itself is) {a}
                  what does the square root of {a} (equal|give|make)
                  how (large|much) is the (root|exact square root) of {a}"""),
        ),
    ),
    Kind(
        "factorial",
        "arithmetic",
        small,
        "import math\nprint(math.factorial({a}))",
        REPLY,
        Phrases(
            lines("""(the factorial|the value of the factorial) of {a}
                  {a}!
                  {a} (factorial|in factorial)
                  the product of (all|the) numbers (up to|from 1 to) {a}"""),
            lines("""(take|find|calculate|work out|determine) the factorial of {a}
                  multiply all numbers (from 1 to|up to) {a}"""),
            lines("""what is (the factorial of {a}|{a} factorial|{a}!)
                  how many ways are there to (order|arrange) {a} things
                  how (large|much) is (the factorial of {a}|the number {a} factorial)"""),
        ),
    ),
    Kind(
        "gcd",
        "arithmetic",
        two_whole,
        "import math\nprint(math.gcd({a}, {b}))",
        REPLY,
        Phrases(
            lines("""the (greatest|highest|biggest) common (divisor|factor) of {a} and {b}
                  the gcd of {a} and {b}
                  gcd({a}, {b})
                  the largest common factor of {a} and {b}
                  the largest number (that divides|dividing) {a} and {b}"""),
            lines("""find the (largest|greatest|biggest) common divisor of {a} and {b}
                  (take|calculate|work out|determine) the (gcd|greatest common divisor) of {a} and {b}"""),
            lines("""what is the (gcd|largest common divisor|greatest common factor) of {a} and {b}
                  which is the (largest|greatest) (number dividing|divisor of) {a} and {b}"""),
        ),
    ),
    Kind(
        "percent",
        "arithmetic",
        percent,
        "print({b} * {a} / 100)",
        REPLY,
        Phrases(
            lines("""{a}(%| percent) of {b}
                  {a}(%| percent) of (the sum|the total|the amount|a price of) {b}
                  the (value|share) of {a}(%| percent) of {b}
                  the share of {a}(%| percent) in {b}"""),
            lines("""(take|calculate|work out|determine) {a}(%| percent) of {b}"""),
            lines("""how much is {a}% of {b}
                  what is {a} percent of {b}
                  what (do|would) {a}(%| percent) of {b} (make|give|be)
                  how large is {a} percent of {b}"""),
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
                  the (value|result|outcome) of {e}
                  what {e} (is|gives|makes|equals)
                  {e} (in one number|as a number)
                  the (solution|sum) of {e}"""),
            lines("""(evaluate|compute|solve|calculate|determine|work out) {e}
                  (find|compute|calculate) the (value|result) of {e}"""),
            lines("""what is {e}
                  how much is {e}
                  what does {e} (give|make|equal|come to)
                  what do (you|we|I) get for {e}
                  what is the result of {e}"""),
        ),
    ),
)
