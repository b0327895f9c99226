"""Tokens to text while they arrive, never half a character."""

import codecs
from collections.abc import Callable


class Detokenizer:
    """Joins the bytes of tokens and gives out whole characters.

    A character of several tokens is held back until it is complete.  Bytes that are no UTF-8 become U+FFFD.

    Args:
        token_bytes: the bytes of a token id.
        strips_first_space: SentencePiece marks the start of a text by a space that is not part of it.
    """

    def __init__(self, token_bytes: Callable[[int], bytes], *, strips_first_space: bool) -> None:
        self._token_bytes = token_bytes
        self._strips_next_space = strips_first_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that has become certain with this token; possibly none."""
        piece = self._token_bytes(token_id)
        if piece and self._strips_next_space:
            self._strips_next_space = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """What is left of an unfinished character, when no more tokens come."""
        return self._decoder.decode(b"", final=True)
