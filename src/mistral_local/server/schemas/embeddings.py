"""The body of an embeddings request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mistral_local.sampling.params import Pooling
from mistral_local.server.schemas.generation import check_count
from mistral_local.server.schemas.values import Body, Integer, NoEffect, Prompt, Prompts, Text, each_prompt
from mistral_local.server.settings import Limits


class EmbeddingsBody(Body):
    """Texts, each of which becomes a vector; OpenAI's clients call them `input`, and Mistral's do so on the wire."""

    model: Text | None = None
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[Integer, Field(ge=1)] | None = None
    output_dimension: Annotated[Integer, Field(ge=1)] | None = None
    output_dtype: Literal["float"] | None = None
    pooling: Annotated[Pooling, Field(description="of the last hidden states: over the text, or its last token")] = (
        "mean"
    )
    user: NoEffect = None
    metadata: NoEffect = None

    @property
    def inputs(self) -> list[Prompt]:
        """Each text, or its token ids."""
        return each_prompt(self.input)

    def check(self, limits: Limits) -> None:
        """Refuse more texts than one request may have.

        Raises:
            ApiError: 422, naming the field.
        """
        check_count("input", len(self.inputs), limits.embeddings)
