"""Choose the next token of each sequence from its logits."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """The sampling parameters of the rows of one step, on the host.

    Attributes:
        temperatures, top_ps: one per row.
        uniforms: one number in [0, 1) per row, drawn by the row's sequence; it alone decides what is sampled.
        wants_logprobs: whether any row is to be scored.
    """

    temperatures: list[float]
    top_ps: list[float]
    uniforms: list[float]
    wants_logprobs: bool


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was chosen for each row.

    Attributes:
        token_ids: [S] int64; -1 where the logits were not finite.
        logprobs: [S] fp32 of the chosen tokens, by the untempered logits; None when nobody asked.
    """

    token_ids: Tensor
    logprobs: Tensor | None


def sample(logits: Tensor, batch: SamplingBatch) -> Sampled:
    """Pick one token per row.

    Args:
        logits: [S, vocab] fp32.
        batch: parameters of the S rows.

    A row with temperature 0 gets the argmax.  Others are divided by their temperature, cut to their nucleus
    (arXiv:1904.09751, section 3.1) and inverted at their uniform number.
    """
    best, token_ids = logits.max(dim=-1)
    is_finite = best.isfinite()
    if any(batch.temperatures):
        token_ids = _sample_nucleus(logits, token_ids, batch)
    logprobs = token_logprobs(logits, token_ids) if batch.wants_logprobs else None
    return Sampled(torch.where(is_finite, token_ids, -1), logprobs)


def token_logprobs(logits: Tensor, token_ids: Tensor) -> Tensor:
    """[S, vocab] fp32 logits and [S] ids -> [S] fp32 log-probabilities of those ids."""
    return logits.gather(1, token_ids[:, None])[:, 0] - logits.logsumexp(dim=-1)


def _sample_nucleus(logits: Tensor, greedy_ids: Tensor, batch: SamplingBatch) -> Tensor:
    """[S, vocab] -> [S] ids; rows with temperature 0 keep their greedy id."""
    temperature = logits.new_tensor(batch.temperatures)[:, None]
    top_p = logits.new_tensor(batch.top_ps)[:, None]
    uniform = logits.new_tensor(batch.uniforms)[:, None]
    # The largest becomes 0 first: divided by a tiny temperature it would be infinite, and the softmax NaN.
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / torch.where(temperature > 0, temperature, 1.0)
    probs, ids = torch.softmax(scaled, dim=-1).sort(dim=-1, descending=True, stable=True)
    cumulative = probs.cumsum(dim=-1)
    probs = torch.where(cumulative - probs > top_p, 0.0, probs)  # the token that crosses top_p stays in
    cumulative = probs.cumsum(dim=-1)
    target = uniform * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)
    index = torch.minimum(index, (probs > 0).sum(dim=-1, keepdim=True) - 1)  # rounding must not leave the nucleus
    sampled = ids.gather(1, index.clamp_(min=0))[:, 0]
    return torch.where(temperature[:, 0] > 0, sampled, greedy_ids)
