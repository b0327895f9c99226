"""A compiled grammar, and how far one answer has come in it."""

from __future__ import annotations

from llguidance import LLMatcher

from mistral_local.errors import GrammarError


class Grammar:
    """What an answer may be: a value, shared by requests and threads.

    Attributes:
        vocab_size: of the tokenizer that it was compiled for.
        eos_id: the token by which an answer ends that is complete.
    """

    __slots__ = ("_matcher", "eos_id", "vocab_size")

    def __init__(self, matcher: LLMatcher, *, vocab_size: int, eos_id: int) -> None:
        self._matcher = matcher  # never advanced itself
        self.vocab_size, self.eos_id = vocab_size, eos_id

    def after(self, tokens: list[int]) -> Grammar:
        """What may follow these tokens.

        Raises:
            GrammarError: if no answer begins with them.
        """
        matcher = self._matcher.deep_copy()
        if matcher.try_consume_tokens(tokens) != len(tokens):
            raise GrammarError("the answer is to begin with a text that its grammar does not allow")
        return Grammar(matcher, vocab_size=self.vocab_size, eos_id=self.eos_id)

    def start(self) -> GrammarState:
        """The state of an answer without tokens; takes microseconds."""
        return GrammarState(self._matcher.deep_copy())


class GrammarState:
    """How far one sequence has come in its grammar; advanced by each of its tokens.

    Attributes:
        matcher: llguidance's state, which computes the masks.
    """

    __slots__ = ("matcher",)

    def __init__(self, matcher: LLMatcher) -> None:
        self.matcher = matcher

    def advance(self, token: int) -> None:
        """Take a token; one that the grammar forbids makes `error` known and nothing else is taken."""
        self.matcher.consume_token(token)

    @property
    def error(self) -> str | None:
        """Why the grammar cannot go on: a token that it forbids, or a step beyond its limits of work."""
        return " ".join(self.matcher.get_error().split()) if self.matcher.is_error() else None

    @property
    def is_complete(self) -> bool:
        """Whether nothing but the end may follow."""
        return self.matcher.is_stopped() and not self.matcher.is_error()
