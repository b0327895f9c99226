"""What rank 0 tells its followers, and what they answer: plain values on the lines of parallel/line.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mistral_local.config import EngineConfig
from mistral_local.engine.step_plan import StepPlan, StepResult
from mistral_local.sampling.grammar.masks import TokenMasks
from mistral_local.sampling.row import SamplingRow


@dataclass(frozen=True, slots=True)
class PlanCache:
    """Drop the cache of the engine before, and say how many blocks fit; answered by an int.

    Attributes:
        num_kept: blocks of the cache before, which stays if it is to be used again; 0 drops it.
    """

    config: EngineConfig
    num_kept: int = 0


@dataclass(frozen=True, slots=True)
class OpenEngine:
    """Make a cache of so many blocks, and a runner on it."""

    config: EngineConfig
    num_blocks: int


@dataclass(frozen=True, slots=True)
class Choosing:
    """How the tokens of a step are chosen; every rank of the last stage must know it, because all take part.

    Attributes:
        is_argmax: whether every row takes its likeliest token as it is: no row of logits need be whole anywhere then.
        wants_logprobs: whether any row asks for the logprob of its token.
    """

    is_argmax: bool
    wants_logprobs: bool


@dataclass(frozen=True, slots=True)
class RunStep:
    """Compute a step; the sampling rank answers with a StepAnswer unless it is rank 0.

    Attributes:
        number: counts the steps.
        rows, masks: what decides the tokens; for the sampling rank, and empty for others.
    """

    number: int
    plan: StepPlan
    choosing: Choosing
    rows: list[SamplingRow] = field(default_factory=list)
    masks: TokenMasks | None = None


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """What came of a step."""

    number: int
    result: StepResult


@dataclass(frozen=True, slots=True)
class TellMemory:
    """Say what is held; answered by a RankMemory."""


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes on one rank: of its weights, and the most that was ever in use."""

    weights: int
    peak: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call that every rank made has ended on rank 0.

    Attributes:
        result: what it returns everywhere; None if it raised.
        error: what it raised.
    """

    result: Any
    error: Exception | None = None
