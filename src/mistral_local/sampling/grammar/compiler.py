"""Compile grammars within limits, and remember the last ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from llguidance import LLMatcher, LLParserLimits

from mistral_local.errors import GrammarError
from mistral_local.sampling.grammar.grammar import Grammar
from mistral_local.sampling.grammar.vocabulary import GrammarVocabulary


@dataclass(frozen=True, slots=True)
class GrammarLimits:
    """How much work a grammar may make.

    Attributes:
        max_schema_bytes: length of a JSON schema as text.
        max_schema_depth: nesting of a JSON schema.
        max_schema_items: sum of the maxItems in a JSON schema.
        max_grammar_bytes: length of a whole grammar: of all tools together, say.
        timeout_s: longest compilation, in seconds.
        cache_entries: compiled grammars that are remembered; the least recently used goes first.
    """

    max_schema_bytes: int = 64 * 1024
    max_schema_depth: int = 64
    max_schema_items: int = 50_000
    max_grammar_bytes: int = 1024 * 1024
    timeout_s: float = 5.0
    cache_entries: int = 64


class GrammarCompiler:
    """Compiles Lark grammars for one vocabulary; any thread may ask.

    Compiling blocks the caller, but lets other threads run: an event loop asks from a thread.
    """

    def __init__(self, vocabulary: GrammarVocabulary, limits: GrammarLimits | None = None) -> None:
        self.vocabulary = vocabulary
        self.limits = limits or GrammarLimits()
        self._compiled: OrderedDict[str, Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, lark: str) -> Grammar:
        """Compile a grammar in llguidance's dialect of Lark.

        Raises:
            GrammarError: if it is too long, takes too long or is refused; the reason is named.
        """
        try:
            num_bytes = len(lark.encode())
        except UnicodeEncodeError as error:
            raise GrammarError("the grammar holds half a surrogate pair, which is no character") from error
        if num_bytes > self.limits.max_grammar_bytes:
            raise GrammarError(
                f"the grammar has {num_bytes} bytes, at most {self.limits.max_grammar_bytes} are allowed"
            )
        with self._lock:
            if lark in self._compiled:
                self._compiled.move_to_end(lark)
                return self._compiled[lark]
        grammar = self._compile(lark)
        with self._lock:
            self._compiled[lark] = grammar
            while len(self._compiled) > self.limits.cache_entries:
                self._compiled.popitem(last=False)
        return grammar

    def _compile(self, lark: str) -> Grammar:
        made: list[LLMatcher] = []
        thread = threading.Thread(target=lambda: made.append(_matcher(self.vocabulary, lark)), daemon=True)
        thread.start()
        thread.join(self.limits.timeout_s)
        if not made:
            # It cannot be stopped, but ends by itself: llguidance counts its work, too.
            raise GrammarError(f"compiling the grammar takes longer than {self.limits.timeout_s:g} s")
        if made[0].is_error():
            raise GrammarError(f"the grammar is refused: {_reason(made[0].get_error())}")
        if not any(made[0].compute_bitmask()) or made[0].is_error():
            raise GrammarError("the grammar is refused: no answer satisfies it")
        return Grammar(made[0], vocab_size=self.vocabulary.size, eos_id=self.vocabulary.eos_id)


def _matcher(vocabulary: GrammarVocabulary, lark: str) -> LLMatcher:
    # Without log_level=0 it writes to stderr; verbose errors would put the whole grammar into the message.
    return LLMatcher(vocabulary.llg, lark, log_level=0, limits=LLParserLimits(verbose_errors=False))


def _reason(message: str) -> str:
    """llguidance's message in one line, without the place: the grammar is not what the caller wrote."""
    first, *others = message.splitlines()
    place, colon, rest = first.partition(": ")
    first = rest if colon and place.startswith("at ") else first
    errors = [line.removeprefix("error:").strip() for line in others if line.startswith("error:")]
    return " ".join([first, *errors])
