"""Counting letters and turning words around."""

from random import Random
from string import ascii_lowercase

from scripts.demo_data.kinds.base import Kind, Phrases, Values
from scripts.demo_data.literals import lines
from scripts.demo_data.values import phrase, title, word

QUOTES = (("", ""), ("", ""), ("'", "'"), ('"', '"'))


def one_word(rng: Random) -> Values:
    text = word(rng) if rng.random() < 0.8 else title(rng)
    left, right = rng.choice(QUOTES)
    return {"w": left + text + right, "t": text}


def letter(rng: Random) -> Values:
    values = one_word(rng)
    found = rng.choice(values["t"].lower()) if rng.random() < 0.8 else rng.choice(ascii_lowercase)
    left, right = rng.choice(QUOTES)
    return values | {"c": found, "q": left + found + right}


def sentence(rng: Random) -> Values:
    text = phrase(rng)
    left, right = rng.choice(QUOTES[2:])
    return {"w": left + text + right, "t": text}


KINDS = (
    Kind(
        "count_letter",
        "letters",
        letter,
        "print('{t}'.count('{c}'))",
        "There are {output}.",
        Phrases(
            lines("""the number of {q} in {w}
                  the count of letter {q} in {w}
                  how often {q} occurs in {w}
                  the number of letters {q} in the word {w}"""),
            lines("""count the {q} in {w}
                  count letter {q} in the word {w}
                  count every {q} in the word {w}"""),
            lines("""how often does {q} occur in {w}
                  how many letters {q} are there in {w}
                  how many {q} does {w} contain
                  how many {c}s do you find in {w}
                  how many {c}'s does {w} have
                  how often is the letter {q} in {w}"""),
        ),
    ),
    Kind(
        "length",
        "letters",
        one_word,
        "print(len('{t}'))",
        "It has {output} letters.",
        Phrases(
            lines("""the length of {w}
                  the number of letters in {w}
                  the letter count of the word {w}"""),
            lines("""count the letters of {w}
                  count all letters in the word {w}"""),
            lines("""how long is the word {w}
                  how many letters are in {w}
                  of how many letters is {w} made"""),
        ),
    ),
    Kind(
        "vowels",
        "letters",
        one_word,
        "print(sum(c in 'aeiou' for c in '{t}'.lower()))",
        "There are {output} vowels.",
        Phrases(
            lines("""the number of vowels in {w}
                  the vowel count of {w}"""),
            lines("""count the vowels in {w}
                  count every vowel of the word {w}"""),
            lines("""how many vowels are in {w}
                  how many vowels does the word {w} contain"""),
        ),
    ),
    Kind(
        "reverse",
        "letters",
        one_word,
        "print('{t}'[::-1])",
        "Backwards it reads {output}.",
        Phrases(
            lines("""{w} backwards
                  the word {w} in reverse
                  the reverse of {w}"""),
            lines("""reverse {w}
                  turn the word {w} around
                  write {w} backwards"""),
            lines("""what is {w} backwards
                  how does {w} read in reverse"""),
        ),
    ),
    Kind(
        "upper",
        "letters",
        one_word,
        "print('{t}'.upper())",
        "In capitals: {output}",
        Phrases(
            lines("""{w} in capitals
                  the word {w} in upper case"""),
            lines("""put {w} in capitals
                  turn {w} into upper case
                  capitalize every letter of {w}"""),
            lines("""what is {w} in capitals
                  how does {w} look in upper case"""),
        ),
    ),
    Kind(
        "count_words",
        "letters",
        sentence,
        "print(len('{t}'.split()))",
        "There are {output} words.",
        Phrases(
            lines("""the number of words in {w}
                  the word count of {w}"""),
            lines("""count the words in {w}
                  count every word of {w}"""),
            lines("""how many words are in {w}
                  how many words does {w} contain"""),
        ),
    ),
)
