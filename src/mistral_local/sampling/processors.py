"""What a request changes about the logits before a token is chosen."""

import torch
from torch import Tensor

from mistral_local.kernels.transfer import to_device
from mistral_local.sampling.grammar.masks import TokenMasks
from mistral_local.sampling.row import SamplingRow


def process_logits(logits: Tensor, rows: list[SamplingRow], masks: TokenMasks | None = None) -> Tensor:
    """Apply token masks, penalties, biases and forbidden ids, all rows at once.

    Args:
        logits: [S, vocab] fp32; not changed.
        masks: of the rows that have a grammar.

    Returns:
        [S, vocab] fp32; the very same tensor when no row asks for anything.
    """
    processed = logits if masks is None else masks.apply(logits)
    for step in (_penalise, _add_bias, _forbid, _keep_allowed):
        processed = step(processed, logits, rows)
    return processed


def _own(processed: Tensor, original: Tensor) -> Tensor:
    """A tensor that may be written."""
    return processed.clone() if processed is original else processed


def _penalise(processed: Tensor, original: Tensor, rows: list[SamplingRow]) -> Tensor:
    """repetition_penalty, presence_penalty and frequency_penalty."""
    at: list[tuple[int, int]] = []
    factors: list[tuple[float, float, float, int]] = []
    for index, row in enumerate(rows):
        if row.seen is not None and row.params.has_penalties:
            p = row.params
            weights = (p.repetition_penalty, p.presence_penalty, p.frequency_penalty)
            for token, count in row.seen.num_written.items():
                at.append((index, token))
                factors.append((*weights, count))
    if not at:
        return processed
    processed = _own(processed, original)
    where = tuple(to_device(at, processed.device).T)
    repetition, presence, frequency, count = to_device(factors, processed.device, processed.dtype).T
    values = processed[where]
    values = torch.where(values > 0, values / repetition, values * repetition)
    processed[where] = values - presence * (count > 0) - frequency * count
    return processed


def _add_bias(processed: Tensor, original: Tensor, rows: list[SamplingRow]) -> Tensor:
    at = [(index, token) for index, row in enumerate(rows) for token in row.params.logit_bias]
    if not at:
        return processed
    processed = _own(processed, original)
    bias = [value for row in rows for value in row.params.logit_bias.values()]
    processed[tuple(to_device(at, processed.device).T)] += to_device(bias, processed.device, processed.dtype)
    return processed


def _forbid(processed: Tensor, original: Tensor, rows: list[SamplingRow]) -> Tensor:
    """bad_token_ids, and stop_token_ids before min_tokens."""
    vocab_size = processed.shape[-1]
    at = [(index, token) for index, row in enumerate(rows) for token in row.forbidden if 0 <= token < vocab_size]
    if not at:
        return processed
    processed = _own(processed, original)
    processed[tuple(to_device(at, processed.device).T)] = -torch.inf
    return processed


def _keep_allowed(processed: Tensor, original: Tensor, rows: list[SamplingRow]) -> Tensor:
    limited = [(index, row.params.allowed_token_ids) for index, row in enumerate(rows)]
    for index, allowed in limited:
        if allowed is not None:
            processed = _own(processed, original)
            ids = to_device(sorted(allowed), processed.device)
            kept = processed[index, ids]
            processed[index] = -torch.inf
            processed[index, ids] = kept
    return processed
