"""Sequences of numbers."""

from random import Random

from scripts.demo_data.kinds.base import Kind, Phrases, Values
from scripts.demo_data.literals import lines

HERE = "Here you go: {output}"


def count(rng: Random) -> Values:
    return {"n": str(rng.randint(2, 40) if rng.random() < 0.85 else rng.randint(41, 99))}


def count_of(rng: Random) -> Values:
    return count(rng) | {"k": str(rng.randint(3, 199))}


def limit(rng: Random) -> Values:
    return {"n": str(rng.randint(5, 150))}


def bounds(rng: Random) -> Values:
    low = rng.randint(0, 900)
    return {"a": str(low), "b": str(low + rng.randint(2, 40))}


KINDS = (
    Kind(
        "fibonacci",
        "sequences",
        count,
        "a, b = 0, 1\nnumbers = []\nfor _ in range({n}):\n    numbers.append(a)\n    a, b = b, a + b\nprint(numbers)",
        HERE,
        Phrases(
            lines("""the first {n} terms of the Fibonacci sequence
                  the Fibonacci sequence up to {n} terms
                  {n} Fibonacci numbers
                  the initial {n} Fibonacci numbers
                  {n} terms of the Fibonacci series"""),
            lines("""list {n} Fibonacci numbers
                  generate the first {n} terms of Fibonacci
                  print the Fibonacci series with {n} terms
                  write down {n} numbers of the Fibonacci series"""),
            lines("""how do the first {n} Fibonacci terms go
                  which are the first {n} terms of the Fibonacci series
                  what is the Fibonacci sequence for {n} terms"""),
        ),
    ),
    Kind(
        "primes",
        "sequences",
        count,
        "primes = []\nn = 2\nwhile len(primes) < {n}:\n    if all(n % p for p in primes):\n        primes.append(n)\n"
        "    n += 1\nprint(primes)",
        HERE,
        Phrases(
            lines("""the first {n} primes
                  {n} prime numbers
                  the smallest {n} primes
                  the initial {n} prime numbers"""),
            lines("""list {n} primes
                  generate the first {n} primes
                  write down {n} prime numbers"""),
            lines("""which are the first {n} primes
                  how do the first {n} primes go"""),
        ),
    ),
    Kind(
        "primes_below",
        "sequences",
        limit,
        "print([n for n in range(2, {n}) if all(n % d for d in range(2, n))])",
        HERE,
        Phrases(
            lines("""all primes below {n}
                  the primes smaller than {n}
                  every prime under {n}"""),
            lines("""list all primes below {n}
                  find each prime under {n}"""),
            lines("""which primes are below {n}
                  which primes are smaller than {n}"""),
        ),
    ),
    Kind(
        "squares",
        "sequences",
        count,
        "print([n ** 2 for n in range(1, {n} + 1)])",
        HERE,
        Phrases(
            lines("""the first {n} squares
                  {n} square numbers
                  the squares of 1 to {n}
                  the initial {n} square numbers"""),
            lines("""list {n} squares
                  generate the first {n} squares
                  square every number from 1 to {n}"""),
            lines("""which are the first {n} squares
                  how do the first {n} squares go"""),
        ),
    ),
    Kind(
        "cubes",
        "sequences",
        count,
        "print([n ** 3 for n in range(1, {n} + 1)])",
        HERE,
        Phrases(
            lines("""the first {n} cubes
                  {n} cube numbers
                  the cubes of 1 to {n}
                  the initial {n} cube numbers"""),
            lines("""list {n} cubes
                  generate the first {n} cubes
                  cube every number from 1 to {n}"""),
            lines("""which are the first {n} cubes
                  how do the first {n} cubes go"""),
        ),
    ),
    Kind(
        "evens",
        "sequences",
        count,
        "print([2 * n for n in range(1, {n} + 1)])",
        HERE,
        Phrases(
            lines("""the first {n} evens
                  {n} even numbers
                  the initial {n} even numbers"""),
            lines("""list {n} even numbers
                  generate the first {n} evens"""),
            lines("""which are the first {n} evens
                  how do the first {n} even numbers go"""),
        ),
    ),
    Kind(
        "odds",
        "sequences",
        count,
        "print([2 * n - 1 for n in range(1, {n} + 1)])",
        HERE,
        Phrases(
            lines("""the first {n} odds
                  {n} odd numbers
                  the initial {n} odd numbers"""),
            lines("""list {n} odd numbers
                  generate the first {n} odds"""),
            lines("""which are the first {n} odds
                  how do the first {n} odd numbers go"""),
        ),
    ),
    Kind(
        "multiples",
        "sequences",
        count_of,
        "print([{k} * n for n in range(1, {n} + 1)])",
        HERE,
        Phrases(
            lines("""{n} multiples of {k}
                  the initial {n} multiples of {k}
                  {n} terms of the {k} times table"""),
            lines("""list {n} multiples of {k}
                  count in steps of {k} for {n} terms"""),
            lines("""which are the first {n} multiples of {k}
                  how do {n} multiples of {k} go"""),
        ),
    ),
    Kind(
        "powers",
        "sequences",
        count_of,
        "print([{k} ** n for n in range({n})])",
        HERE,
        Phrases(
            lines("""{n} powers of {k}
                  the initial {n} powers of {k}"""),
            lines("""list {n} powers of {k}
                  generate {n} powers of {k}"""),
            lines("""which are the first {n} powers of {k}
                  how do {n} powers of {k} go"""),
        ),
    ),
    Kind(
        "range",
        "sequences",
        bounds,
        "print(list(range({a}, {b} + 1)))",
        HERE,
        Phrases(
            lines("""the numbers from {a} to {b}
                  all integers between {a} and {b}
                  every number from {a} up to {b}"""),
            lines("""count from {a} to {b}
                  list the numbers from {a} to {b}"""),
            lines("""which numbers lie from {a} to {b}
                  how does one count from {a} to {b}"""),
        ),
    ),
)
