"""Tokens to text while they arrive, never half a character."""

import codecs
from collections.abc import Callable, Iterable


class Detokenizer:
    """Joins the bytes of tokens and gives out whole characters.

    A character of several tokens is held back until it is complete.  Bytes that are no UTF-8 become U+FFFD.

    Args:
        token_bytes: the bytes of a token id.
        marks_start: whether a token that begins with a space, and is the first of a text, does so as SentencePiece's
            mark of the start, which is not part of the text.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], *, marks_start: Callable[[int], bool]) -> None:
        self._token_bytes, self._marks_start = token_bytes, marks_start
        self._is_start = True
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that has become certain with this token; possibly none."""
        piece = self._token_bytes(token_id)
        if piece and self._is_start:
            self._is_start = False
            piece = piece.removeprefix(b" ") if self._marks_start(token_id) else piece
        return self._decoder.decode(piece)

    def push_all(self, token_ids: Iterable[int]) -> str:
        """The text that has become certain with these tokens."""
        rest, text = iter(token_ids), ""
        for token_id in rest:
            text += self.push(token_id)
            if not self._is_start:
                break
        return text + self._decoder.decode(b"".join(map(self._token_bytes, rest)))

    def finish(self) -> str:
        """What is left of an unfinished character, when no more tokens come."""
        return self._decoder.decode(b"", final=True)
