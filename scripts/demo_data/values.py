"""Random values: numbers, made-up words, names, places.  Nothing here can be memorised, so it must be copied."""

from functools import cache
from random import Random
from string import ascii_lowercase, ascii_uppercase

from scripts.demo_data.literals import bars, words
from scripts.demo_data.tekken import derive_tekken

ONSETS = words("b c d f g h j k l m n p r s t v w z br ch cl dr fl gr kr pl pr sh sk sl st th tr qu")
NUCLEI = words("a e i o u ai ea ee ia io oo ou ar er or an en in on")
CODAS = ["", "", "", *words("n r s t l m k d x sh nd rt st ck ng th ll")]
NAMES = words(
    "Ada Bruno Carla Dario Elif Farid Greta Hugo Ines Jonas Kira Leo Mona Nils Olga Pablo Rosa Sami Tara Umar Vera "
    "Wim Yara Zeno Noor Otto Lena Emil Nora Felix Clara Ivan Mira Axel Jana Boris Lucia Oscar Selma Theo"
)
PLACES = bars(
    "Bergen|Lyon|Porto|Krakow|Ghent|Turin|Malmo|Bilbao|Leeds|Graz|Split|Tartu|Cork|Basel|Nantes|Utrecht|Kyoto|Lima|"
    "Quito|Accra|Hanoi|Perth|Denver|Austin|Boston|New Orleans|Salt Lake City|Cape Town|Rio Grande|Santa Fe|Las Palmas"
)


@cache
def vocabulary() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the letters-only tokens of the demo's vocabulary: those that start a word, and those inside of words."""
    pieces = [t["token_str"] or "" for t in derive_tekken()["vocab"]]
    letters = [piece for piece in pieces if piece.strip().isascii() and piece.strip().isalpha() and len(piece) > 1]
    return tuple(p.strip() for p in letters if p.startswith(" ")), tuple(p for p in letters if not p.startswith(" "))


@cache
def vocabulary_words() -> tuple[str, ...]:
    """Return the words that are one token of the demo's vocabulary."""
    return tuple(sorted({word for word in vocabulary()[0] if len(word) > 2}))


def pieces(rng: Random) -> str:
    """Return one to three tokens run together: drills for the embedding of every token."""
    starts, insides = vocabulary()
    first = rng.choice(starts if rng.random() < 0.5 else insides)
    return first + "".join(rng.choice(insides) for _ in range(rng.choice((0, 1, 1, 2))))


def syllables(rng: Random) -> str:
    """Return a made-up lower-case word of one to three syllables."""
    count = rng.choice((1, 2, 2, 2, 3, 3))
    return "".join(rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS) for _ in range(count))


def word(rng: Random) -> str:
    """Return a lower-case word, made up or real."""
    kind = rng.random()
    if kind < 0.5:
        return pieces(rng).lower()
    if kind < 0.65:
        return syllables(rng)
    if kind < 0.95:
        return rng.choice(vocabulary_words()).lower()
    return "".join(rng.choice(ascii_lowercase) for _ in range(rng.randint(2, 9)))


def title(rng: Random) -> str:
    """Return a word that starts with a capital, here and there a mixed-case or an upper-case one."""
    kind = rng.random()
    if kind < 0.1:
        return "".join(rng.choice(ascii_uppercase) for _ in range(rng.randint(2, 5)))
    return pieces(rng) if kind < 0.2 else word(rng).capitalize()


def person(rng: Random) -> str:
    """Return a first name, or two made-up names."""
    if rng.random() < 0.3:
        return rng.choice(NAMES)
    return title(rng) if rng.random() < 0.6 else f"{title(rng)} {title(rng)}"


def place(rng: Random) -> str:
    """Return a place, mostly made up, of one to three words."""
    if rng.random() < 0.15:
        return rng.choice(PLACES)
    return " ".join(title(rng) for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3))))


def phrase(rng: Random) -> str:
    """Return two to five words, as a title or a lower-case phrase."""
    words = [word(rng) for _ in range(rng.randint(2, 5))]
    return " ".join(w.capitalize() for w in words) if rng.random() < 0.3 else " ".join(words)


def integer(rng: Random, most: int = 6) -> str:
    """Return a positive integer of one to `most` digits, each length as likely."""
    digits = rng.randint(1, most)
    return str(rng.randint(10 ** (digits - 1) if digits > 1 else 1, 10**digits - 1))


def decimal(rng: Random) -> str:
    """Return an integer or a number with one or two decimals."""
    if rng.random() < 0.6:
        return integer(rng, 4)
    return f"{integer(rng, 3)}.{rng.randint(1, 9) if rng.random() < 0.6 else rng.randint(11, 99)}"


def isodate(rng: Random) -> str:
    """Return a date as YYYY-MM-DD."""
    return f"{rng.randint(1900, 2099)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
