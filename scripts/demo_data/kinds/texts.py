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
                  the (count|number) of (the letter|letter) {q} in {w}
                  how (often|many times) {q} (occurs|appears|comes) in {w}
                  the number of letters {q} in the word {w}
                  how many {q} (there are|are) in {w}"""),
            lines("""count (the|all|every) {q} in {w}
                  count (letter|the letter) {q} in (the word |){w}
                  count (every|all) {q} in the word {w}
                  count how (often|many times) {q} (is|appears|comes up) in {w}
                  (find|say) how many {c}'s there are in {w}"""),
            lines("""how often does {q} (occur|appear|come up) in {w}
                  how many letters {q} are (there |)in {w}
                  how many {q} does {w} (contain|have)
                  how many {c}s do you (find|see|count) in {w}
                  how many {c}'s (does {w} have|are there in {w}|do you count in {w})
                  how often is the letter {q} in {w}
                  how many times (is|can you find|do you see) {q} in {w}
                  how many {c}s are there in (the word |){w}"""),
        ),
    ),
    Kind(
        "length",
        "letters",
        one_word,
        "print(len('{t}'))",
        "It has {output} letters.",
        Phrases(
            lines("""the length of (the word |){w}
                  the number of letters in {w}
                  the letter count of (the word |){w}
                  how (long {w} is|many letters {w} has)
                  the number of (characters|letters) in the word {w}"""),
            lines("""count (the letters|all letters|every letter) of (the word |){w}
                  count all letters in the word {w}
                  (find|measure|calculate) the length of (the word |){w}"""),
            lines("""how long is (the word |){w}
                  how many letters are (there |)in {w}
                  how many letters does {w} (contain|have)
                  of how many letters is {w} made
                  what is the (length|number of letters) of {w}"""),
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
                  the (vowel count|count of vowels) (of|in) {w}
                  how many vowels (are in {w}|{w} has)"""),
            lines("""count (the|all) vowels in {w}
                  count every vowel (of|in) the word {w}
                  (find|say) how many vowels are in {w}"""),
            lines("""how many vowels are (there |)in {w}
                  how many vowels does (the word |){w} contain
                  how many vowels does the word {w} have
                  what is the number of vowels in {w}"""),
        ),
    ),
    Kind(
        "reverse",
        "letters",
        one_word,
        "print('{t}'[::-1])",
        "Backwards it reads {output}.",
        Phrases(
            lines("""{w} (backwards|in reverse|reversed|spelled backwards)
                  the word {w} (in reverse|from back to front|reversed)
                  the (reverse|reversal) of (the word |){w}
                  what {w} is backwards"""),
            lines("""reverse {w}
                  (turn|flip) the word {w} around
                  (write|spell|print|say) (the word |){w} backwards
                  reverse the (letters|order of the letters) of {w}"""),
            lines("""what is (the word |){w} (backwards|in reverse|reversed)
                  how does {w} read (in reverse|backwards)
                  how do (you|I) (spell|write) {w} backwards
                  what do (you|I|we) get when (you|I|we) reverse {w}"""),
        ),
    ),
    Kind(
        "upper",
        "letters",
        one_word,
        "print('{t}'.upper())",
        "In capitals: {output}",
        Phrases(
            lines("""{w} in (capitals|capital letters|big letters|uppercase)
                  the word {w} in (upper case|capitals|capital letters)
                  the upper case (form|version) of {w}"""),
            lines("""(put|turn|print) {w} (in|into) (capitals|upper case|capital letters)
                  (write|spell) {w} in (capital letters|big letters|upper case)
                  (capitalize|enlarge) every letter of {w}
                  make {w} upper case"""),
            lines("""what is {w} in (capitals|capital letters|uppercase)
                  how does {w} look in (upper case|capitals)
                  how do (you|I) write {w} in (capitals|capital letters|upper case)"""),
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
                  the (word count|count of words) (of|in) {w}
                  how many words {w} has"""),
            lines("""count (the|these) words in {w}
                  count every word (of|in) {w}
                  (find|say) how many words are in {w}"""),
            lines("""how many words are in {w}
                  how many words does {w} (contain|have)
                  of how many words is {w} made
                  what is the number of words in {w}"""),
        ),
    ),
)
