"""The tokens of one tokenizer, as llguidance sees them."""

from collections.abc import Callable, Collection, Sequence

from llguidance import LLTokenizer, TokenizerWrapper


class GrammarVocabulary:
    """What every token adds to a text, arranged for masks; about a second for 131072 tokens.

    Attributes:
        size: number of token ids.
        eos_id: the token that ends an answer.
        llg: the same as llguidance's own type.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        *,
        control_ids: Collection[int],
        bos_id: int,
        eos_id: int,
        encode: Callable[[str], list[int]],
    ) -> None:
        """Arrange the tokens.

        Args:
            tokens: the bytes of each id; a token without bytes is never allowed.  Those of control tokens are not read:
                a grammar names them by their id, as <[5]>.
            encode: the tokens of a text inside an answer.  Where a grammar leaves only one text, they are forced.
        """
        self.size, self.eos_id = len(tokens), eos_id
        self.eos_token_id, self.bos_token_id, self.special_token_ids = eos_id, bos_id, sorted(control_ids)
        self.tokens = [b"<|%d|>" % i if i in control_ids else token for i, token in enumerate(tokens)]
        self._encode = encode
        self.llg = LLTokenizer(TokenizerWrapper(self))

    def __call__(self, text: str) -> list[int]:
        """Encode; the name by which llguidance asks for it."""
        if not isinstance(text, str):
            raise TypeError("expected text")  # llguidance tries bytes first
        return self._encode(text)
