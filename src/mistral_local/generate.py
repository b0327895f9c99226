"""generate(): encoded prompts in, token ids and logprobs out; the call that scripts of mistral_inference make."""

from collections.abc import Sequence as Items
from typing import Any

from mistral_local.config import EngineConfig, KVDtype
from mistral_local.engine.engine import Engine
from mistral_local.engine.follower import run_on_all_ranks
from mistral_local.engine.kv_memory import KVMemory
from mistral_local.engine.roads import block_size_for
from mistral_local.errors import RequestError
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams, row_seed

CONTEXT_STEP = 256
"""The KV cache is sized in steps of so many tokens, so that the next call can often use it again."""


def generate(
    encoded_prompts: list[list[int]],
    model: Transformer,
    images: Items[Items[Any]] = (),
    *,
    max_tokens: int,
    temperature: float,
    chunk_size: int | None = None,
    eos_id: int | None = None,
    top_p: float = 0.8,
    seed: int | None = None,
    prompt_logprobs: bool = True,
    kv_dtype: KVDtype = "auto",
) -> tuple[list[list[int]], list[list[float]]]:
    """Answer a batch of prompts.

    Args:
        encoded_prompts: token ids of each prompt; lengths may differ, and more prompts than the model's
            max_batch_size wait for their turn.
        images: none; models with vision are not implemented.
        max_tokens: most new tokens per prompt; 0 scores the prompts only.
        temperature: 0 for the likeliest token, else the logits are divided by it.
        chunk_size: most prompt tokens of one sequence per step; the result does not depend on it.
        eos_id: ends the row in which it is sampled; None never stops early.
        top_p: nucleus of the sampling, as upstream 0.8.
        seed: makes the sampling repeatable; row i draws from (seed, i).
        prompt_logprobs: whether to score the prompts.
        kv_dtype: as EngineConfig's.

    Returns:
        (tokens, logprobs), one row per prompt.  A row of tokens ends before its EOS and may be empty; with max_tokens=0
        there are no rows of tokens.  A row of logprobs has the prompt tokens from the second on, if asked for, then
        each new token; all are log-softmax of the untempered logits.

    Raises:
        RequestError: if a prompt or an option cannot be served.
        OutOfMemoryError: if the KV cache does not fit.

    One call at a time per model; AsyncEngine serves many callers.  Under torchrun every rank makes the same call and gets
    the same lists; what counts are the arguments of rank 0.
    """
    return run_on_all_ranks(
        model,
        lambda: _generate(
            encoded_prompts,
            model,
            images,
            max_tokens=max_tokens,
            temperature=temperature,
            chunk_size=chunk_size,
            eos_id=eos_id,
            top_p=top_p,
            seed=seed,
            prompt_logprobs=prompt_logprobs,
            kv_dtype=kv_dtype,
        ),
    )


def _generate(
    encoded_prompts: list[list[int]],
    model: Transformer,
    images: Items[Items[Any]],
    *,
    max_tokens: int,
    temperature: float,
    chunk_size: int | None,
    eos_id: int | None,
    top_p: float,
    seed: int | None,
    prompt_logprobs: bool,
    kv_dtype: KVDtype,
) -> tuple[list[list[int]], list[list[float]]]:
    _check_call(model, encoded_prompts, images, max_tokens=max_tokens, chunk_size=chunk_size, seed=seed)
    if not encoded_prompts:
        return [], []
    # Scoring alone samples one token too, which is dropped.
    params = [
        SamplingParams(
            max_tokens=max(1, max_tokens),
            temperature=temperature,
            top_p=top_p,
            seed=None if seed is None else row_seed(seed, row),
            stop_token_ids=frozenset() if eos_id is None else frozenset([eos_id]),
            logprobs=True,
            prompt_logprobs=prompt_logprobs,
        )
        for row in range(len(encoded_prompts))
    ]
    longest = max(map(len, encoded_prompts)) + max_tokens + 1
    engine = _make_engine(
        model, num_prompts=len(encoded_prompts), longest=longest, chunk_size=chunk_size, kv_dtype=kv_dtype
    )
    sequences = engine.generate(encoded_prompts, params)
    if max_tokens == 0:
        return [], [sequence.prompt_logprobs for sequence in sequences]
    return (
        [sequence.new_tokens for sequence in sequences],
        [sequence.prompt_logprobs + sequence.logprobs for sequence in sequences],
    )


def _check_call(
    model: Transformer,
    prompts: list[list[int]],
    images: Items[Items[Any]],
    *,
    max_tokens: int,
    chunk_size: int | None,
    seed: int | None,
) -> None:
    """Refuse what cannot be, before anything is computed."""
    if any(images or ()):
        raise RequestError("images: this model has no vision encoder")
    for name, value, low in (("max_tokens", max_tokens, 0), ("chunk_size", chunk_size, 1), ("seed", seed, None)):
        if value is None and name != "max_tokens":
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise RequestError(f"{name}: expected an integer, got {value!r}")
        if low is not None and value < low:
            raise RequestError(f"{name}: expected at least {low}, got {value}")
    for row, prompt in enumerate(prompts):
        if not isinstance(prompt, list) or not all(isinstance(token, int) for token in prompt):
            raise RequestError(f"encoded_prompts: expected lists of token ids, row {row} is another type")
    longest = max(map(len, prompts), default=0) + max_tokens
    if longest > model.args.context_length:
        raise RequestError(
            f"prompt and max_tokens need {longest} tokens, the context of this model has {model.args.context_length}"
        )


def _make_engine(
    model: Transformer, *, num_prompts: int, longest: int, chunk_size: int | None, kv_dtype: KVDtype
) -> Engine:
    """An engine for one call, on the KV cache of the last call if that suits; the model keeps it for the next."""
    config = EngineConfig(
        max_num_seqs=min(num_prompts, model.args.max_batch_size or num_prompts),
        max_context=-(-longest // CONTEXT_STEP) * CONTEXT_STEP,
        max_prefill_chunk=chunk_size,
        block_size=block_size_for(model, kv_dtype),
        kv_dtype=kv_dtype,
    )
    kept, model.kept_kv = model.kept_kv, None
    if not (isinstance(kept, KVMemory) and kept.suits(model, config)):
        kept = None  # it goes before the new one comes
    engine = Engine(model, config, kept)
    model.kept_kv = engine.kv
    return engine
