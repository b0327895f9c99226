"""What a caller may ask of one answer, whatever the task."""

from dataclasses import dataclass

from mistral_local.errors import RequestError
from mistral_local.sampling.params import check_distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """Options of one answer.

    Attributes:
        max_tokens: most new tokens; None means until the model ends its answer or the context is full.
        temperature: 0 picks the likeliest token; above 0 divides the logits before sampling.
        top_p: nucleus of the sampling, in (0, 1]; the token that crosses the threshold stays in.
        seed: makes sampling repeatable; None draws a fresh one.
        stop: texts that end the answer where they appear; they are not part of it.

    Raises:
        RequestError: if a value is of the wrong type or out of range.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 0.8
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_types()
        if self.max_tokens is not None and self.max_tokens < 1:
            raise RequestError(f"max_tokens: expected at least 1, got {self.max_tokens}")
        check_distribution(temperature=self.temperature, top_p=self.top_p)
        if any(not text for text in self.stop):
            raise RequestError("stop: an empty string would end every answer at once")

    def _check_types(self) -> None:
        for name in ("max_tokens", "seed"):
            if not isinstance(getattr(self, name), int | None) or isinstance(getattr(self, name), bool):
                raise RequestError(f"{name}: expected an integer, got {getattr(self, name)!r}")
        for name in ("temperature", "top_p"):
            if not isinstance(getattr(self, name), int | float) or isinstance(getattr(self, name), bool):
                raise RequestError(f"{name}: expected a number, got {getattr(self, name)!r}")
        if not isinstance(self.stop, tuple | list) or not all(isinstance(text, str) for text in self.stop):
            raise RequestError(f"stop: expected texts, got {self.stop!r}")
