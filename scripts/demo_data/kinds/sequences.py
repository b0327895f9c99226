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
            lines("""the first {n} terms of the Fibonacci (sequence|series)
                  the Fibonacci (sequence|series) (up to|with|for) {n} terms
                  {n} (Fibonacci numbers|numbers of the Fibonacci sequence)
                  the (initial|leading|beginning) {n} Fibonacci numbers
                  {n} terms of the Fibonacci (series|sequence)
                  the first {n} (numbers of Fibonacci|Fibonacci terms|numbers in the Fibonacci sequence)
                  the Fibonacci numbers, {n} of them"""),
            lines("""(list|print|show|write down|generate|give) {n} Fibonacci numbers
                  (list|print|generate|show) the first {n} (terms of Fibonacci|Fibonacci terms|numbers of Fibonacci)
                  (print|list|calculate) the Fibonacci (series|sequence) (with|for|up to) {n} terms
                  write down {n} numbers of the Fibonacci (series|sequence)"""),
            lines("""how do the first {n} Fibonacci (terms|numbers) go
                  (which|what) are the first {n} (terms of the Fibonacci series|Fibonacci terms|numbers in the Fibonacci sequence)
                  what is the Fibonacci sequence (for|up to) {n} terms
                  which are the first {n} Fibonacci numbers
                  which {n} numbers does the Fibonacci sequence start with"""),
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
                  {n} (prime numbers|primes)
                  the (smallest|initial|lowest|leading) {n} (primes|prime numbers)
                  the first {n} numbers that are prime
                  the prime numbers, {n} of them"""),
            lines("""(list|print|show|give|find) {n} (primes|prime numbers)
                  (list|print|generate|show|find) the first {n} (primes|prime numbers)
                  write down {n} prime numbers"""),
            lines("""(which|what) are the first {n} primes
                  how do the first {n} (primes|prime numbers) go
                  which {n} primes come first
                  which are the first {n} prime numbers"""),
        ),
    ),
    Kind(
        "primes_below",
        "sequences",
        limit,
        "print([n for n in range(2, {n}) if all(n % d for d in range(2, n))])",
        HERE,
        Phrases(
            lines("""(all|every|the) (primes|prime numbers) (smaller|less|lower) than {n}
                  (all|the) prime numbers below {n}
                  all primes (below|under|up to) {n}
                  every prime (under|below) {n}"""),
            lines("""(list|print|show|generate) all (primes|prime numbers) (below|under|smaller than) {n}
                  find (each|every) prime (under|below) {n}
                  (list|print) the primes (below|under) {n}"""),
            lines("""which (primes|prime numbers) are (below|under|smaller than|less than) {n}
                  what are (all|the) (prime numbers|primes) (smaller than|less than) {n}
                  which numbers below {n} are prime"""),
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
                  the squares (of|from) 1 to {n}
                  the (initial|leading|smallest) {n} (square numbers|squares)
                  the first {n} square numbers in a list
                  the squares of the first {n} numbers"""),
            lines("""(list|print|show|give) {n} (squares|square numbers)
                  (list|print|generate|show) the first {n} (squares|square numbers)
                  square every number from 1 to {n}"""),
            lines("""(which|what) are the first {n} squares
                  how do the first {n} (squares|square numbers) go
                  which are the first {n} square numbers
                  which {n} square numbers come first"""),
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
                  the cubes (of|from) 1 to {n}
                  the (initial|leading|smallest) {n} (cube numbers|cubes)
                  the first {n} cube numbers in a list
                  the cubes of the first {n} numbers"""),
            lines("""(list|print|show|give) {n} (cubes|cube numbers)
                  (list|print|generate|show) the first {n} (cubes|cube numbers)
                  cube every number from 1 to {n}"""),
            lines("""(which|what) are the first {n} cubes
                  how do the first {n} (cubes|cube numbers) go
                  which are the first {n} cube numbers
                  which {n} cube numbers come first"""),
        ),
    ),
    Kind(
        "evens",
        "sequences",
        count,
        "print([2 * n for n in range(1, {n} + 1)])",
        HERE,
        Phrases(
            lines("""the first {n} (evens|positive even numbers)
                  {n} even numbers
                  the (initial|leading|smallest) {n} even numbers
                  the even numbers, {n} of them
                  {n} even numbers (in order|in a list)"""),
            lines("""(list|print|show|give) {n} even numbers
                  (list|print|generate|show) the first {n} (evens|even numbers)
                  count {n} even numbers"""),
            lines("""(which|what) are the first {n} (evens|positive even numbers)
                  how do the first {n} even numbers go
                  which {n} even numbers come first"""),
        ),
    ),
    Kind(
        "odds",
        "sequences",
        count,
        "print([2 * n - 1 for n in range(1, {n} + 1)])",
        HERE,
        Phrases(
            lines("""the first {n} (odds|positive odd numbers)
                  {n} odd numbers
                  the (initial|leading|smallest) {n} odd numbers
                  the odd numbers, {n} of them
                  {n} odd numbers (in order|in a list)"""),
            lines("""(list|print|show|give) {n} odd numbers
                  (list|print|generate|show) the first {n} (odds|odd numbers)
                  count {n} odd numbers"""),
            lines("""(which|what) are the first {n} (odds|positive odd numbers)
                  how do the first {n} odd numbers go
                  which {n} odd numbers come first"""),
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
                  the (initial|leading|smallest) {n} multiples of {k}
                  {n} terms of the {k} times table
                  the first {n} (numbers in the {k} times table|numbers that {k} divides)
                  the multiples of {k}, {n} of them"""),
            lines("""(list|print|show|give) {n} multiples of {k}
                  (list|print|generate|show) the first {n} multiples of {k}
                  count in steps of {k} for {n} terms"""),
            lines("""which are the first {n} multiples of {k}
                  how do (|the first ){n} multiples of {k} go
                  which {n} multiples of {k} come first"""),
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
                  the (initial|leading|smallest) {n} powers of {k}
                  the powers of {k}, {n} of them
                  the first {n} powers of the number {k}"""),
            lines("""(list|print|show|give|generate) {n} powers of {k}
                  (list|print|generate|show) the first {n} powers of {k}"""),
            lines("""which are the first {n} powers of {k}
                  how do (|the first ){n} powers of {k} go
                  which {n} powers of {k} come first"""),
        ),
    ),
    Kind(
        "range",
        "sequences",
        bounds,
        "print(list(range({a}, {b} + 1)))",
        HERE,
        Phrases(
            lines("""the numbers (from|between) {a} (to|and) {b}
                  (all|the) integers between {a} and {b}
                  every (number|integer) from {a} (up to|to) {b}
                  the list of numbers from {a} to {b}
                  all the integers from {a} (up to|until) {b}"""),
            lines("""count (up |)from {a} to {b}
                  (list|print|show) (all|the|every) numbers from {a} (to|up to) {b}
                  (print|show) (all|the) integers from {a} to {b}"""),
            lines("""which (numbers|integers) (lie|are there) (from {a} to {b}|between {a} and {b})
                  how (does one|do I) count from {a} to {b}
                  what are all numbers from {a} (up to|until) {b}"""),
        ),
    ),
)
