"""Guess what a sequence writes next from what it holds already: speculation without a draft model."""

LONGEST, SHORTEST = 4, 3
"""Tokens that must have occurred before in the same order, for what followed then to be a guess."""


class NgramProposer:
    """Prompt lookup decoding (Saxena, 2023): code that is edited and text that is quoted repeat themselves.

    It guesses as many tokens as paid lately: twice as many after a guess that came true, one more than was right after
    one that did not.
    """

    def __init__(self) -> None:
        self._next_at: dict[tuple[int, ...], int] = {}  # n-gram -> index of the token after its latest occurrence
        self._num_indexed = 0
        self._length = 2

    def propose(self, tokens: list[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that followed the latest earlier occurrence of the last few.

        Past the last token the guess goes on with itself: what repeated once repeats again.
        """
        self._index(tokens)
        for length in range(LONGEST, SHORTEST - 1, -1):
            start = self._next_at.get(tuple(tokens[-length:])) if len(tokens) > length else None
            if start is not None:
                period = len(tokens) - start
                return tuple(tokens[start + i % period] for i in range(min(most, self._length)))
        return ()

    def learn(self, num_proposed: int, num_accepted: int) -> None:
        """How much of the last guess came true."""
        self._length = 2 * num_proposed if num_accepted == num_proposed else num_accepted + 1

    def _index(self, tokens: list[int]) -> None:
        """Index the n-grams that something follows."""
        for end in range(max(SHORTEST, self._num_indexed), len(tokens)):
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._next_at[tuple(tokens[end - length : end])] = end
        self._num_indexed = len(tokens)
