"""Let an engine pay its first costs before somebody waits for it."""

from __future__ import annotations

from mistral_local.engine.engine import Engine
from mistral_local.sampling.params import SamplingParams

PROMPT_TOKENS, ANSWER_TOKENS = 32, 4
"""A prompt, a token by itself, and two more of the same kind: kernels are compiled by the first and a step recorded by the second."""


def warmed_up(engine: Engine) -> Engine:
    """An engine like this one, on its memory, after it has answered a short prompt.

    On a GPU kernels are compiled then, which takes a while the first time on a machine, and the step of a single sequence is
    recorded.  An engine that has no room for the prompt is returned as it is.

    Raises:
        OutOfMemoryError: if there is no memory for a step.
    """
    if engine.max_context < PROMPT_TOKENS + ANSWER_TOKENS:
        return engine
    prompt = [token % engine.model.args.vocab_size for token in range(PROMPT_TOKENS)]
    engine.generate([prompt], [SamplingParams(max_tokens=ANSWER_TOKENS)])
    return Engine(engine.model, engine.config, engine.kv)
