"""Bodies of fill-in-the-middle and of text completion."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mistral_local.sampling.params import MAX_TOP_LOGPROBS
from mistral_local.server.errors import ApiError
from mistral_local.server.schemas.generation import GenerationBody, ScoredBody, check_count
from mistral_local.server.schemas.values import Flag, Integer, Prompt, Prompts, Text, each_prompt
from mistral_local.server.settings import Limits


class FimBody(ScoredBody):
    """The text before a gap, and the text after it."""

    prompt: Text
    suffix: Text | None = None


class CompletionBody(GenerationBody):
    """Texts to go on with, as OpenAI's clients send them; with a suffix, a gap to fill."""

    prompt: Prompts
    suffix: Text | None = None
    echo: Flag | None = None
    best_of: Integer | None = None
    logprobs: Annotated[Integer, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None

    @property
    def prompts(self) -> list[Prompt]:
        """Each text, or its token ids."""
        return each_prompt(self.prompt)

    @property
    def token_limit(self) -> int | None:
        """Most new tokens; OpenAI's completions have 16 if nothing is said."""
        return 16 if self.max_tokens is None else self.max_tokens

    def options(self, *, temperature: float) -> dict[str, Any]:
        """What GenerationOptions is made of; errors as in GenerationBody."""
        options = super().options(temperature=temperature)
        return options if self.logprobs is None else options | {"logprobs": True, "top_logprobs": self.logprobs}

    def check(self, limits: Limits) -> None:
        """Refuse what one request may not ask for; errors as in GenerationBody."""
        super().check(limits)
        check_count("prompt", len(self.prompts), limits.prompts)
        check_count("n times prompts", self.num_choices * len(self.prompts), limits.prompts)
        if self.best_of not in (None, self.num_choices):
            raise ApiError(422, "best_of: answers are not ranked; ask for n of them", param="best_of")
        if self.suffix is not None and not all(isinstance(prompt, str) for prompt in self.prompts):
            raise ApiError(422, "suffix: a gap can be filled between texts only", param="suffix")
        if self.echo and (self.logprobs is not None or not all(isinstance(prompt, str) for prompt in self.prompts)):
            raise ApiError(422, "echo: only texts, without logprobs, can be repeated", param="echo")
