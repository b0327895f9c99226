"""What the sampler needs of one sequence."""

from collections.abc import Iterable
from dataclasses import dataclass

from mistral_local.sampling.grammar import GrammarState
from mistral_local.sampling.params import SamplingParams


class SeenTokens:
    """The tokens that a sequence holds, and how often it wrote each itself."""

    def __init__(self, prompt: Iterable[int]) -> None:
        self.num_written = dict.fromkeys(prompt, 0)

    def add(self, token: int) -> None:
        """Count a new token."""
        self.num_written[token] = self.num_written.get(token, 0) + 1


@dataclass(frozen=True, slots=True)
class SamplingRow:
    """One row of logits and the sequence it belongs to.

    Attributes:
        uniform: a number in [0, 1) drawn by the sequence; it alone decides what is sampled.
        num_new_tokens: how long the answer is already.
        seen: tokens so far; None when nothing depends on them.
        grammar: how far the answer has come in its grammar, if it has one.
    """

    params: SamplingParams
    uniform: float
    num_new_tokens: int = 0
    seen: SeenTokens | None = None
    grammar: GrammarState | None = None

    @property
    def forbidden(self) -> frozenset[int]:
        """Ids that may not be chosen now."""
        params = self.params
        return params.bad_token_ids | (
            params.stop_token_ids if self.num_new_tokens < params.min_tokens else frozenset()
        )
