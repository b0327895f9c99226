"""What chat, fill-in-the-middle and text completion have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from mistral_local.sampling.params import MAX_BIAS, MAX_TOP_LOGPROBS
from mistral_local.server.errors import ApiError
from mistral_local.server.schemas.values import Body, Flag, Integer, NoEffect, Number, Text, given
from mistral_local.server.settings import Limits

Bias = Annotated[Number, Field(ge=-MAX_BIAS, le=MAX_BIAS)]
Seed = Annotated[Integer, Field(ge=-(2**63), lt=2**63)]


class StreamOptions(Body):
    """How OpenAI's clients ask for the usage of a stream."""

    include_usage: Flag = False
    include_obfuscation: NoEffect = None


class GenerationBody(Body):
    """Options of an answer.  The model's name may be any: there is one model."""

    model: Text | None = None
    max_tokens: Annotated[Integer, Field(ge=0)] | None = None
    min_tokens: Annotated[Integer, Field(ge=0)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[Integer, Field(ge=0)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = None
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Bias] | None = None
    random_seed: Seed | None = None
    seed: Seed | None = None
    stop: Text | list[Text] | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Integer, Field(ge=1)] | None = None
    regex: Annotated[Text, Field(description="the answer is a text that this matches as a whole")] | None = None
    lark: Annotated[Text, Field(description="the answer is a text of this grammar")] | None = None
    ignore_eos: Flag | None = None

    metadata: NoEffect = None
    user: NoEffect = None
    service_tier: NoEffect = None
    prompt_cache_key: NoEffect = None
    prompt_cache_retention: NoEffect = None
    safety_identifier: NoEffect = None

    OPTIONS: ClassVar = (
        "min_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "stop",
        "regex",
        "lark",
        "ignore_eos",
    )

    @property
    def num_choices(self) -> int:
        """Answers that are wanted."""
        return self.n or 1

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream is to end with a chunk that has the usage and no choices."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def token_limit(self) -> int | None:
        """Most new tokens; 0 wants none."""
        return self.max_tokens

    def options(self, *, temperature: float) -> dict[str, Any]:
        """What GenerationOptions is made of.

        Args:
            temperature: if the body names none.

        Raises:
            ApiError: 422, if two names of one option have two values.
        """
        if self.seed is not None and self.random_seed is not None and self.seed != self.random_seed:
            raise ApiError(422, "seed and random_seed are two names of one option", param="seed")
        options = {"temperature": temperature, "top_p": 1.0, **given(self, self.OPTIONS)}
        if self.logit_bias is not None:
            options["logit_bias"] = {int(token): bias for token, bias in self.logit_bias.items()}
        seed = self.random_seed if self.seed is None else self.seed
        if seed is not None:
            options["seed"] = seed
        if self.token_limit is not None:
            options["max_tokens"] = max(1, self.token_limit)
        return options

    def check(self, limits: Limits) -> None:
        """Refuse more than one request may ask for.

        Raises:
            ApiError: 422, naming the field.
        """
        check_count("n", self.num_choices, limits.choices)
        check_count("logit_bias", len(self.logit_bias or ()), limits.logit_bias)
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        check_count("stop", len(stops), limits.stops)
        for place, stop in enumerate(stops):
            if not 1 <= len(stop) <= limits.stop_chars:
                message = f"stop.{place}: expected 1 to {limits.stop_chars} characters, got {len(stop)}"
                raise ApiError(422, message, param=f"stop.{place}")


class ScoredBody(GenerationBody):
    """Options of an answer whose tokens may be scored, as chat has them."""

    logprobs: Flag | None = None
    top_logprobs: Annotated[Integer, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None

    def options(self, *, temperature: float) -> dict[str, Any]:
        """What GenerationOptions is made of; errors as in GenerationBody."""
        return super().options(temperature=temperature) | given(self, ("logprobs", "top_logprobs"))


def check_count(name: str, count: int, most: int) -> None:
    """Refuse more than `most`.

    Raises:
        ApiError: 422, naming the field.
    """
    if count > most:
        raise ApiError(422, f"{name}: at most {most} are allowed, got {count}", param=name)
