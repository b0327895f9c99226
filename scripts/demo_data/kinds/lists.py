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
            lines("""the (sorted order|sorted list|ascending order) of {s}
                  these numbers (in order|in sorted order|sorted): {s}
                  {s} in (ascending order|order of size|the right order|rising order)
                  {s} sorted
                  the numbers {s} from small to large"""),
            lines("""sort {s}
                  sort (the numbers|the following numbers|all of) {s}
                  (put|bring) {s} (into|in) (ascending|sorted|the right|rising) order
                  order these numbers: {s}
                  sort (this list of numbers|these values|the following list): {s}
                  (arrange|order) {s} from (small to large|lowest to highest)"""),
            lines("""what is the (sorted|ascending|right) order of {s}
                  how do (you|I) (order|sort) {s}
                  what do (you|we|I) get when (you|we|I) sort {s}
                  how does {s} look in sorted order"""),
        ),
    ),
    Kind(
        "sort_numbers_down",
        "sorting",
        numbers,
        "print(sorted({l}, reverse=True))",
        "From the largest: {output}",
        Phrases(
            lines("""{s} (in descending order|in falling order|from large to small)
                  these numbers in descending order: {s}
                  the descending order of {s}
                  {s} sorted (downwards|from large to small|in reverse)
                  the numbers {s} from large to small"""),
            lines("""sort {s} (in descending order|downwards|from large to small|in reverse)
                  sort the numbers {s} (downwards|in descending order)
                  (put|bring) {s} (into|in) descending order
                  order {s} with the largest first
                  sort (this list |)in descending order: {s}
                  (arrange|order) {s} from (large to small|highest to lowest)"""),
            lines("""what is the descending order of {s}
                  how do (you|I) (order|sort) {s} in descending order
                  how does {s} look in descending order
                  what do (you|we|I) get when (you|we|I) sort {s} in descending order"""),
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
                  {s} (in order of the alphabet|sorted alphabetically|sorted by the alphabet)
                  the words {s} in alphabetical order
                  the alphabetically sorted list of {s}"""),
            lines("""sort the words {s}
                  (put|bring) {s} (into|in) alphabetical order
                  (order|arrange) these words: {s}
                  sort (by the alphabet|alphabetically|this list of words|the following words): {s}
                  (sort|order) {s} (alphabetically|by the alphabet)"""),
            lines("""what is the alphabetical order of {s}
                  how do (you|I) (order|sort) the words {s}
                  how does {s} look in alphabetical order"""),
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
                  the sum of (these numbers|this list|all of these): {s}
                  the (total|sum) of the (values|list|following numbers) {s}
                  the total of (the numbers |){s}"""),
            lines("""(sum up|sum|total) {s}
                  (sum up|total) the (numbers|list) {s}
                  add (together|up) {s}
                  add (up |)these numbers: {s}
                  (calculate|work out|find) the (sum|total) of {s}"""),
            lines("""what is the (sum of the numbers|total of|sum of) {s}
                  how much do {s} make
                  how large is the sum of {s}
                  what do the numbers {s} add up to"""),
        ),
    ),
    Kind(
        "mean_list",
        "sorting",
        numbers,
        "numbers = {l}\nprint(sum(numbers) / len(numbers))",
        "The answer is {output}.",
        Phrases(
            lines("""the (mean|average) of {s}
                  the (mean|average) of (these numbers|this list|all of these): {s}
                  the (mean|average) value of {s}
                  the mean of the numbers {s}"""),
            lines("""average {s}
                  take the (mean|average) of {s}
                  take the (mean|average) of these numbers: {s}
                  (calculate|work out|find) the (mean|average) of {s}"""),
            lines("""what is the (mean|average value|mean value) of {s}
                  how large is the (average|mean) of {s}
                  what is the average of the numbers {s}
                  what do {s} average to"""),
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
                  the (largest|biggest) (of|among) {s}
                  the (largest|biggest) (number|value) (in|of|among) {s}
                  the (maximum|largest value) of (these numbers|this list): {s}"""),
            lines("""find the (largest|biggest) of {s}
                  (pick|take|choose|determine) the (maximum|largest|biggest) of {s}
                  find the largest (number|value) (in|among) {s}"""),
            lines("""which is the (largest|biggest) of {s}
                  which (number|value) is the (largest|biggest): {s}
                  what is the (maximum|largest number|largest value) (of|in) {s}"""),
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
                  the (smallest|lowest) (of|among) {s}
                  the (smallest|lowest) (number|value) (in|of|among) {s}
                  the (minimum|smallest value) of (these numbers|this list): {s}"""),
            lines("""find the (smallest|lowest) of {s}
                  (pick|take|choose|determine) the (minimum|smallest|lowest) of {s}
                  find the smallest (number|value) (in|among) {s}"""),
            lines("""which is the (smallest|lowest) of {s}
                  which (number|value) is the (smallest|lowest): {s}
                  what is the (minimum|smallest number|smallest value) (of|in) {s}"""),
        ),
    ),
)
