"""A request that is ready for an engine, and knows how its answer is read."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, replace

from mistral_local.engine.sequence import Sequence
from mistral_local.sampling.params import SamplingParams, row_seed
from mistral_local.tasks.answer import AnswerReader
from mistral_local.tasks.answer_parser import AnswerParser, ends_in_reasoning
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.call_ids import CallIds


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """What an engine is given, and what its tokens are read with; the engine may be stepped by anyone.

    Attributes:
        tokens: the prompt's ids, exactly as mistral_common encodes it.
        params: how the answer's tokens are chosen.
        stop: texts that end the answer.
        call_ids: of the conversation; None for tasks without calls and reasoning.
        continues_text: whether the answer goes on in the middle of a text.
        prefix: what the prompt has put in the model's mouth; it is part of the answer.
        wants_tokens: False if the answer is to have none: then nothing is computed.
        notes: what was done to the request that its sender may not expect, a line each.
    """

    tokenizer: Tokenizer
    tokens: list[int]
    params: SamplingParams
    stop: tuple[str, ...] = ()
    call_ids: CallIds | None = None
    continues_text: bool = False
    prefix: str = ""
    wants_tokens: bool = True
    notes: tuple[str, ...] = ()

    def choices(self, n: int) -> list[PreparedRequest]:
        """The request n times, each to be answered by itself: from one seed, every row draws numbers of its own."""
        return [self, *map(self._row, range(1, n))]

    def _row(self, row: int) -> PreparedRequest:
        seed = None if self.params.seed is None else row_seed(self.params.seed, row)
        call_ids = None if self.call_ids is None else self.call_ids.copy()
        return replace(self, params=replace(self.params, seed=seed), call_ids=call_ids)

    def finished_sequence(self) -> Sequence:
        """The sequence of an answer without tokens; no engine knows it."""
        sequence = Sequence(list(self.tokens), len(self.tokens), self.params)
        sequence.finish("length")
        return sequence

    def reader(self, sequence: Sequence) -> AnswerReader:
        """Begin to read the answer of the sequence that was made of this request."""
        if self.call_ids is not None and self.params.seed is not None:
            prompt = hashlib.sha256(array("q", self.tokens)).hexdigest()
            self.call_ids.seed(f"{self.params.seed} {prompt}")
        parser = AnswerParser(
            self.tokenizer,
            stop=self.stop,
            call_ids=self.call_ids,
            continues_text=self.continues_text,
            is_thinking=self.call_ids is not None and ends_in_reasoning(self.tokenizer, self.tokens),
        )
        return AnswerReader(sequence, self.tokenizer, parser, prefix=self.prefix)
