"""What the model runner is told about a step, and what it answers: plain values, which can cross a process border."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from mistral_local.sampling.params import Pooling

AWAITED = -1
"""In place of a token id that the step before is still to choose."""


@dataclass(frozen=True, slots=True)
class NewBlocks:
    """How a block table goes on since the runner was last told.

    Attributes:
        start: index of the first new block; 0 begins the table anew.
        blocks: block ids from there on.
    """

    start: int
    blocks: list[int]


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One sequence's part in a step.

    Attributes:
        row: where the runner keeps the sequence's block tables; no other sequence that runs has it.
        start: position of the first token that is computed.
        token_ids: what is computed; the last one may be AWAITED.
        new_blocks: what is new in its block tables, for each group of layers.
        num_sampled: a token is chosen after each of the last so many tokens; 0 when the prompt goes on.
        scored_from: position of the first token whose successor is scored.
        scored: the successors to score, one after the other; empty when nobody asked.
        pooling: which hidden states are wanted instead of tokens.
        awaited_row: which of the tokens that the step before chooses is the AWAITED one.
    """

    row: int
    start: int
    token_ids: list[int]
    new_blocks: tuple[NewBlocks, ...]
    num_sampled: int
    scored_from: int = 0
    scored: list[int] = field(default_factory=list)
    pooling: Pooling | None = None
    awaited_row: int | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes."""
        return len(self.token_ids)

    @property
    def end(self) -> int:
        """Tokens whose keys are in the cache after the step."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of the model: the parts are packed in this order."""

    parts: list[PlannedPart]

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes."""
        return sum(part.num_tokens for part in self.parts)

    @property
    def only_decodes(self) -> bool:
        """Whether every part is a single token."""
        return all(part.num_tokens == 1 for part in self.parts)


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token that was chosen for a sequence; below 0 when none could be, as the sampler says."""

    token: int
    logprob: float = 0.0
    top_logprobs: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of a step; each list has an entry per part of the plan.

    Attributes:
        sampled: the tokens chosen after its last `num_sampled` tokens, in order.
        prompt_logprobs: of the tokens in `scored`.
        pooled: [dim] fp32 on the model's device: the last hidden state, or for the mean the sum of those of the part.
    """

    sampled: list[list[SampledToken]]
    prompt_logprobs: list[list[float]]
    pooled: list[Tensor | None]
