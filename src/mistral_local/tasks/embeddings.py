"""Embeddings: one vector per text, from the last hidden states of the model."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn.functional import normalize

from mistral_local.engine.async_engine import AsyncEngine
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import MistralLocalError
from mistral_local.sampling.params import Pooling, SamplingParams


def embed(engine: Engine, prompts: list[list[int]], *, pooling: Pooling) -> list[list[float]]:
    """Compute one vector of length 1 per prompt.

    Args:
        prompts: token ids.
        pooling: "mean" over the prompt's hidden states, or that of its "last" token.

    Returns:
        [len(prompts)][dim] numbers.

    Raises:
        RequestError: if a prompt cannot be computed.
    """
    return _vectors(engine.generate(prompts, [_params(pooling)] * len(prompts)))


async def aembed(engine: AsyncEngine, prompts: list[list[int]], *, pooling: Pooling) -> list[list[float]]:
    """embed() on an event loop; cancelling it gives up what has not been computed."""
    return _vectors(await engine.generate(prompts, [_params(pooling)] * len(prompts)))


def _params(pooling: Pooling) -> SamplingParams:
    return SamplingParams(max_tokens=1, pooling=pooling)


def _vectors(sequences: Iterable[Sequence]) -> list[list[float]]:
    vectors = [sequence.pooled for sequence in sequences if sequence.pooled is not None]
    if not all(bool(torch.isfinite(vector).all()) for vector in vectors):
        raise MistralLocalError("the model's hidden states are not finite; the weights may be damaged")
    return [normalize(vector, dim=0).tolist() for vector in vectors]
