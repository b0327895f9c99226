"""How the tokens of one sequence are chosen, and when it ends."""

import math
from dataclasses import dataclass

from mistral_local.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What the engine is told about one sequence.

    Attributes:
        max_tokens: most new tokens.
        temperature: 0 is the exact argmax; above 0 divides the logits.
        top_p: keeps the likeliest tokens up to and with the one that crosses this probability, in (0, 1].
        seed: makes the sampling repeatable, whatever else runs beside it; None draws a fresh one.
        stop_token_ids: ids that end the sequence; they are neither returned nor scored.
        logprobs: score each new token by the log-softmax of the logits (never tempered).
        prompt_logprobs: score the prompt's tokens from the second on as well.

    Raises:
        RequestError: if a value is out of range.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: frozenset[int] = frozenset()
    logprobs: bool = False
    prompt_logprobs: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens: expected at least 1, got {self.max_tokens}")
        check_distribution(temperature=self.temperature, top_p=self.top_p)


def check_distribution(*, temperature: float, top_p: float) -> None:
    """Refuse a distribution that nothing can be sampled from.

    Raises:
        RequestError: naming the option, what was expected and what came.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise RequestError(f"temperature: expected a finite number >= 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise RequestError(f"top_p: expected a number in (0, 1], got {top_p}")
