"""What a caller may ask of one answer, whatever the task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mistral_local.errors import RequestError
from mistral_local.sampling.grammar import Grammar
from mistral_local.sampling.params import SamplingParams, row_seed

INTEGERS = ("max_tokens", "min_tokens", "top_k", "seed", "top_logprobs")
SWITCHES = ("ignore_eos", "logprobs")
MAY_BE_NONE = ("max_tokens", "seed")
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """Options of one answer.

    Attributes:
        max_tokens: most new tokens; None means until the model ends its answer or the context is full.
        min_tokens: the model may not end its answer before so many new tokens.
        temperature: 0 picks the likeliest token; above 0 divides the logits before sampling.
        top_p: nucleus of the sampling, in (0, 1]; the token that crosses the threshold stays in.
        top_k: keeps the likeliest so many tokens; 0 keeps all.
        min_p: keeps tokens at least so likely, relative to the likeliest.
        repetition_penalty, presence_penalty, frequency_penalty: as in SamplingParams.
        logit_bias: token id -> number that is added to its logit.
        seed: makes sampling repeatable; None draws a fresh one.
        stop: texts that end the answer where they appear; they are not part of it.
        ignore_eos: write on until max_tokens.
        logprobs: score each new token.
        top_logprobs: and beside it the likeliest so many tokens, at most 20.
        json_schema: the answer is an instance of this JSON schema or Pydantic model, on one line.
        regex: the answer is a text that this regular expression matches as a whole (Rust's syntax: no look-around).
        lark: the answer is a text of this grammar, in llguidance's dialect of Lark.

    Raises:
        RequestError: if a value is of the wrong type or out of range.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 0.8
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    json_schema: Any = None
    regex: str | None = None
    lark: str | None = None

    def __post_init__(self) -> None:
        self._check_types()
        if any(not text for text in self.stop):
            raise RequestError("stop: an empty string would end every answer at once")
        if len(self.form) > 1:
            raise RequestError(f"{' and '.join(self.form)}: an answer can have one form only")
        if self.form and self.ignore_eos:
            raise RequestError(f"ignore_eos: an answer with a {next(iter(self.form))} ends where that says")
        if self.top_logprobs and not self.logprobs:
            raise RequestError("top_logprobs: needs logprobs")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise RequestError(f"max_tokens: expected at least 1, got {self.max_tokens}")
        self.sampling_params(room=max(self.max_tokens or 0, self.min_tokens, 1), eos_id=0)

    @property
    def form(self) -> dict[str, Any]:
        """What is said about the form of the answer, by its name."""
        form = {"json_schema": self.json_schema, "regex": self.regex, "lark": self.lark}
        return {name: value for name, value in form.items() if value is not None}

    def _check_types(self) -> None:
        for name in INTEGERS:
            value = getattr(self, name)
            if not (value is None and name in MAY_BE_NONE) and (not isinstance(value, int) or isinstance(value, bool)):
                raise RequestError(f"{name}: expected an integer, got {value!r}")
        for name in NUMBERS:
            if not isinstance(getattr(self, name), int | float) or isinstance(getattr(self, name), bool):
                raise RequestError(f"{name}: expected a number, got {getattr(self, name)!r}")
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        if not isinstance(self.stop, tuple | list) or not all(isinstance(text, str) for text in self.stop):
            raise RequestError(f"stop: expected texts, got {self.stop!r}")
        for name in ("regex", "lark"):
            if not isinstance(getattr(self, name), str | None):
                raise RequestError(f"{name}: expected a text, got {getattr(self, name)!r}")
        if not isinstance(self.logit_bias, Mapping):
            raise RequestError(f"logit_bias: expected token ids with numbers, got {self.logit_bias!r}")
        for token, bias in self.logit_bias.items():
            if not isinstance(token, int) or not isinstance(bias, int | float) or isinstance(bias, bool):
                raise RequestError(f"logit_bias: expected token ids with numbers, got {token!r}: {bias!r}")

    def sampling_params(
        self,
        *,
        room: int,
        eos_id: int,
        row: int = 0,
        bad_token_ids: frozenset[int] = frozenset(),
        grammar: Grammar | None = None,
    ) -> SamplingParams:
        """What the engine is told.

        Args:
            room: tokens that the context has left.
            eos_id: the token by which the model ends an answer.
            row: number of the prompt in a batch; rows draw different random numbers from one seed.
            bad_token_ids: tokens that the task forbids.
            grammar: to which the answer is held.
        """
        max_tokens = max(1, room if self.max_tokens is None else min(self.max_tokens, room))
        return SamplingParams(
            max_tokens=max_tokens,
            min_tokens=min(self.min_tokens, max_tokens) if self.max_tokens is None else self.min_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            seed=None if self.seed is None else row_seed(self.seed, row),
            stop_token_ids=frozenset() if self.ignore_eos else frozenset([eos_id]),
            bad_token_ids=bad_token_ids,
            grammar=grammar,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
        )


def read_options(options: Mapping[str, Any]) -> GenerationOptions:
    """Make options of their names and values; `stop` may be a single text, as in the Mistral API.

    Raises:
        RequestError: if there is no option of a name, or a value cannot be.
    """
    known = GenerationOptions.__dataclass_fields__
    if unknown := [name for name in options if name not in known]:
        raise RequestError(f"unknown option {', '.join(unknown)}; there are {', '.join(known)}")
    if isinstance(options.get("stop"), str):
        options = {**options, "stop": (options["stop"],)}
    return GenerationOptions(**options)
