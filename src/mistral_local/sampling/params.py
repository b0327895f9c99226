"""How the tokens of one sequence are chosen, and when it ends."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from mistral_local.errors import RequestError, TokenIdError
from mistral_local.sampling.grammar import Grammar

MAX_TOP_LOGPROBS = 20
MAX_BIAS = 1e6
"""Far above any logit, and far below what fp32 can hold."""

Pooling = Literal["mean", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What the engine is told about one sequence.

    A token is chosen from the model's logits in this order: `grammar`, penalties, `logit_bias`, forbidden ids; then,
    unless the temperature is 0, temperature, `min_p`, `top_k`, `top_p`.

    Attributes:
        max_tokens: most new tokens.
        min_tokens: so many new tokens come before a stop token may.
        temperature: 0 is the exact argmax; above 0 divides the logits.
        top_p: keeps the likeliest tokens up to and with the one that crosses this probability, in (0, 1].
        top_k: keeps the likeliest so many tokens; 0 keeps all.
        min_p: keeps tokens at least so likely, relative to the likeliest one, in [0, 1] (arXiv:2407.01082).
        repetition_penalty: divides positive and multiplies negative logits of tokens that the prompt or the answer
            holds (arXiv:1909.05858, section 4.1); 1 changes nothing, and 0.01 to 100 are allowed.
        presence_penalty: subtracted from the logits of tokens that the answer holds.
        frequency_penalty: subtracted from them once for each time they occur in the answer.
        logit_bias: added to the logits of these ids; from -1e6 to 1e6.
        allowed_token_ids: only these may be chosen; None allows all.
        bad_token_ids: these may not be chosen.
        grammar: holds the answer to it; what it forbids no other option allows.  An answer that is complete ends, even
            before min_tokens.  Its EOS must be one of the stop tokens.
        seed: makes the sampling repeatable, whatever else runs beside it; None draws a fresh one.
        stop_token_ids: ids that end the sequence; they are neither returned nor scored.
        logprobs: score each new token by the log-softmax of the model's logits: untempered, before any of the above.
        top_logprobs: beside it the likeliest so many tokens and their scores, at most 20.
        scored_token_ids: in place of the likeliest tokens, score these, in this order; needs logprobs.
        prompt_logprobs: score the prompt's tokens from the second on as well.
        pooling: choose no tokens, but return one vector of the last hidden states: their mean over the prompt, or that
            of its last token.

    Raises:
        RequestError: if a value is out of range.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: frozenset[int] | None = None
    bad_token_ids: frozenset[int] = frozenset()
    grammar: Grammar | None = None
    seed: int | None = None
    stop_token_ids: frozenset[int] = frozenset()
    logprobs: bool = False
    top_logprobs: int = 0
    scored_token_ids: tuple[int, ...] = ()
    prompt_logprobs: bool = False
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        _check("max_tokens", self.max_tokens, low=1)
        _check("min_tokens", self.min_tokens, low=0, high=self.max_tokens)
        check_distribution(temperature=self.temperature, top_p=self.top_p)
        _check("top_k", self.top_k, low=0)
        _check("min_p", self.min_p, low=0, high=1)
        _check("repetition_penalty", self.repetition_penalty, low=0.01, high=100)
        _check("presence_penalty", self.presence_penalty, low=-2, high=2)
        _check("frequency_penalty", self.frequency_penalty, low=-2, high=2)
        _check("top_logprobs", self.top_logprobs, low=0, high=MAX_TOP_LOGPROBS)
        if self.scored_token_ids and not self.logprobs:
            raise RequestError("scored_token_ids: needs logprobs")
        if len(set(self.scored_token_ids)) < len(self.scored_token_ids):
            raise RequestError("scored_token_ids: each id can be asked for once")
        for bias in self.logit_bias.values():
            _check("logit_bias", bias, low=-MAX_BIAS, high=MAX_BIAS)
        if self.pooling is not None and self.pooling not in get_args(Pooling):
            raise RequestError(f"pooling: expected mean or last, got {self.pooling!r}")
        if self.grammar is not None and self.grammar.eos_id not in self.stop_token_ids:
            raise RequestError("grammar: its EOS must end the answer, so that ignore_eos cannot be")
        if self.allowed_token_ids is not None and not self.allowed_token_ids - self.bad_token_ids:
            raise RequestError("allowed_token_ids: no token may be chosen")

    @property
    def num_scored_beside(self) -> int:
        """How many tokens are scored beside each new one."""
        return len(self.scored_token_ids) or self.top_logprobs

    @property
    def has_penalties(self) -> bool:
        """Whether the choice depends on the tokens before."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    def check_ids(self, vocab_size: int) -> None:
        """Refuse ids that a vocabulary does not have.

        Raises:
            TokenIdError: naming the option and the id.
        """
        if self.grammar is not None and self.grammar.vocab_size != vocab_size:
            raise TokenIdError(f"grammar: made for {self.grammar.vocab_size} token ids, the model has {vocab_size}")
        options = {
            "logit_bias": self.logit_bias,
            "allowed_token_ids": self.allowed_token_ids or (),
            "bad_token_ids": self.bad_token_ids,
            "scored_token_ids": self.scored_token_ids,
        }
        for name, ids in options.items():
            for token in ids:
                if not 0 <= token < vocab_size:
                    raise TokenIdError(f"{name}: token id {token} is outside the vocabulary of {vocab_size}")


def row_seed(seed: int, row: int) -> int:
    """The seed of one row of a batch; every pair gives another, negative seeds included, and row 0 keeps its own."""
    return (seed << 32) ^ row if row else seed


def check_distribution(*, temperature: float, top_p: float) -> None:
    """Refuse a distribution that nothing can be sampled from.

    Raises:
        RequestError: naming the option, what was expected and what came.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise RequestError(f"temperature: expected a finite number >= 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise RequestError(f"top_p: expected a number in (0, 1], got {top_p}")


def _check(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    if not low <= value <= high:
        expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
        raise RequestError(f"{name}: expected {expected}, got {value}")
