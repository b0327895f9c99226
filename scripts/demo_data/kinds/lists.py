"""Sorting and summing of lists."""

from random import Random

from scripts.demo_data.kinds.base import Kind, Phrases, Values
from scripts.demo_data.literals import lines
from scripts.demo_data.values import integer, title, word


def spoken(items: list[str], rng: Random) -> str:
    """Write a list as a person does: with commas, blanks, brackets or a final "and"."""
    style = rng.random()
    if style < 0.55:
        return ", ".join(items)
    if style < 0.7:
        return "[" + ", ".join(items) + "]"
    return " ".join(items) if style < 0.85 else ", ".join(items[:-1]) + " and " + items[-1]


def numbers(rng: Random) -> Values:
    most = rng.randint(1, 4)
    items = [integer(rng, most) for _ in range(rng.randint(3, 8))]
    return {"s": spoken(items, rng), "l": "[" + ", ".join(items) + "]"}


def words(rng: Random) -> Values:
    draw = title if rng.random() < 0.3 else word
    items = [draw(rng) for _ in range(rng.randint(3, 6))]
    return {"s": spoken(items, rng).replace("[", "").replace("]", ""), "l": "[" + ", ".join(map(repr, items)) + "]"}


KINDS = (
    Kind(
        "sort_numbers",
        "sorting",
        numbers,
        "print(sorted({l}))",
        "In order: {output}",
        Phrases(
            lines("""the sorted order of {s}
                  these numbers in order: {s}
                  {s} in ascending order"""),
            lines("""sort {s}
                  sort the numbers {s}
                  put {s} into ascending order
                  order these numbers: {s}
                  sort this list of numbers: {s}"""),
            lines("""what is the sorted order of {s}
                  how do you order {s}"""),
        ),
    ),
    Kind(
        "sort_numbers_down",
        "sorting",
        numbers,
        "print(sorted({l}, reverse=True))",
        "From the largest: {output}",
        Phrases(
            lines("""{s} in descending order
                  these numbers in descending order: {s}
                  the descending order of {s}"""),
            lines("""sort {s} in descending order
                  sort the numbers {s} downwards
                  put {s} into descending order
                  order {s} with the largest first
                  sort in descending order: {s}"""),
            lines("""what is the descending order of {s}
                  how do you order {s} in descending order"""),
        ),
    ),
    Kind(
        "sort_words",
        "sorting",
        words,
        "print(sorted({l}))",
        "In order: {output}",
        Phrases(
            lines("""the alphabetical order of {s}
                  these words in alphabetical order: {s}
                  {s} in order of the alphabet"""),
            lines("""sort the words {s}
                  put {s} into alphabetical order
                  order these words: {s}
                  sort by the alphabet: {s}"""),
            lines("""what is the alphabetical order of {s}
                  how do you order the words {s}"""),
        ),
    ),
    Kind(
        "sum_list",
        "sorting",
        numbers,
        "print(sum({l}))",
        "The answer is {output}.",
        Phrases(
            lines("""the sum of {s}
                  the sum of these numbers: {s}
                  the total of the numbers {s}"""),
            lines("""sum up {s}
                  add together {s}
                  add these numbers: {s}"""),
            lines("""what is the sum of the numbers {s}
                  how much do {s} make"""),
        ),
    ),
    Kind(
        "mean_list",
        "sorting",
        numbers,
        "numbers = {l}\nprint(sum(numbers) / len(numbers))",
        "The answer is {output}.",
        Phrases(
            lines("""the mean of {s}
                  the average of {s}
                  the mean of these numbers: {s}"""),
            lines("""average {s}
                  take the mean of {s}
                  take the average of these numbers: {s}"""),
            lines("""what is the mean of {s}
                  how large is the average of {s}"""),
        ),
    ),
    Kind(
        "largest",
        "sorting",
        numbers,
        "print(max({l}))",
        "It is {output}.",
        Phrases(
            lines("""the maximum of {s}
                  the largest of {s}
                  the largest number in {s}"""),
            lines("""find the largest of {s}
                  pick the maximum of {s}"""),
            lines("""which is the largest of {s}
                  which number is the largest: {s}"""),
        ),
    ),
    Kind(
        "smallest",
        "sorting",
        numbers,
        "print(min({l}))",
        "It is {output}.",
        Phrases(
            lines("""the minimum of {s}
                  the smallest of {s}
                  the smallest number in {s}"""),
            lines("""find the smallest of {s}
                  pick the minimum of {s}"""),
            lines("""which is the smallest of {s}
                  which number is the smallest: {s}"""),
        ),
    ),
)
