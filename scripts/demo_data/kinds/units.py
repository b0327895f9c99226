"""Conversion of units."""

from random import Random

from scripts.demo_data.kinds.base import Kind, Phrases, Values
from scripts.demo_data.literals import lines
from scripts.demo_data.values import decimal

# (unit, abbreviation, other unit, other abbreviation, program for a value x); factors are exact by definition (NIST
# SP 811, appendix B) or rounded to four figures.
PAIRS = (
    ("kilometers", "km", "miles", "mi", "x / 1.609344"),
    ("miles", "mi", "kilometers", "km", "x * 1.609344"),
    ("meters", "m", "feet", "ft", "x / 0.3048"),
    ("feet", "ft", "meters", "m", "x * 0.3048"),
    ("inches", "in", "centimeters", "cm", "x * 2.54"),
    ("centimeters", "cm", "inches", "in", "x / 2.54"),
    ("kilograms", "kg", "pounds", "lb", "x * 2.2046"),
    ("pounds", "lb", "kilograms", "kg", "x / 2.2046"),
    ("degrees Celsius", "°C", "degrees Fahrenheit", "°F", "x * 9 / 5 + 32"),
    ("degrees Fahrenheit", "°F", "degrees Celsius", "°C", "(x - 32) * 5 / 9"),
    ("liters", "l", "gallons", "gal", "x / 3.7854"),
    ("gallons", "gal", "liters", "l", "x * 3.7854"),
    ("hours", "h", "minutes", "min", "x * 60"),
    ("minutes", "min", "hours", "h", "x / 60"),
    ("days", "d", "hours", "h", "x * 24"),
    ("weeks", "wk", "days", "d", "x * 7"),
    ("kilograms", "kg", "grams", "g", "x * 1000"),
    ("kilometers", "km", "meters", "m", "x * 1000"),
)


def convert(rng: Random) -> Values:
    unit, short, other, other_short, formula = rng.choice(PAIRS)
    value = decimal(rng)
    if unit.startswith("degrees") and rng.random() < 0.6:
        unit, other = unit.removeprefix("degrees "), other.removeprefix("degrees ")
    if rng.random() < 0.35:
        unit, other = short, other_short
    return {"v": value, "u": unit, "o": other, "f": formula.replace("x", value)}


KINDS = (
    Kind(
        "convert",
        "units",
        convert,
        "print({f})",
        "That is {output}.",
        Phrases(
            lines("""{v} {u} (in|to|as|into) {o}
                  the value of {v} {u} in {o}
                  the number of {o} in {v} {u}
                  {v} {u} (expressed|measured|given|converted) in {o}
                  how (much {v} {u} is in {o}|many {o} {v} {u} are)"""),
            lines("""convert {v} {u} (to|from {u} to) {o}
                  (change|turn|transform) {v} {u} into {o}
                  express {v} {u} (as|in) {o}
                  (write|give|say) {v} {u} in {o}
                  (calculate|work out|find) {v} {u} in {o}"""),
            lines("""how much (is|are) {v} {u} in {o}
                  what is {v} {u} in {o}
                  how many {o} (make|is|give) {v} {u}
                  how many {o} are there in {v} {u}
                  what does {v} {u} (make|give|equal) in {o}"""),
        ),
    ),
)
