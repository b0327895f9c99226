"""A request that is ready for an engine, and knows how its answer is read."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

from mistral_local.engine.sequence import Sequence
from mistral_local.sampling.params import SamplingParams
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
        notes: what was done to the request that its sender may not expect, a line each.
    """

    tokenizer: Tokenizer
    tokens: list[int]
    params: SamplingParams
    stop: tuple[str, ...] = ()
    call_ids: CallIds | None = None
    continues_text: bool = False
    prefix: str = ""
    notes: tuple[str, ...] = ()

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
