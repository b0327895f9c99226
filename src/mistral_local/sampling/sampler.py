"""Choose the next token of each sequence from its logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mistral_local.sampling.grammar.masks import TokenMasks
from mistral_local.sampling.processors import process_logits
from mistral_local.sampling.row import SamplingRow

# In place of a token id, where none could be chosen.
NOT_FINITE = -1
"""The model's logits were not finite."""
NONE_ALLOWED = -2
"""What the request allows leaves no token."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was chosen for each of S rows.

    Attributes:
        token_ids: [S] int64; NOT_FINITE or NONE_ALLOWED where no token could be chosen.
        logprobs: [S] fp32 of the chosen tokens, by the model's own logits; None when nobody asked.
        top_ids, top_logprobs: [S, K], the likeliest tokens by the model's own logits; None when nobody asked.
    """

    token_ids: Tensor
    logprobs: Tensor | None = None
    top_ids: Tensor | None = None
    top_logprobs: Tensor | None = None


def sample(logits: Tensor, rows: list[SamplingRow], masks: TokenMasks | None = None) -> Sampled:
    """Pick one token per row.

    Args:
        logits: [S, vocab] fp32; not changed.
        masks: of the rows that have a grammar.

    A row with temperature 0 gets the argmax of the processed logits.  Others are divided by their temperature, cut by
    min_p, top_k and top_p, and inverted at their uniform number.
    """
    processed = process_logits(logits, rows, masks)
    best, token_ids = processed.max(dim=-1)
    if any(row.params.temperature for row in rows):
        token_ids = _sample_cut(processed, token_ids, rows)
    chosen = torch.where(best.isfinite(), token_ids, NOT_FINITE)
    if processed is not logits:
        chosen = chosen.masked_fill(best == -torch.inf, NONE_ALLOWED)
    if not any(row.params.logprobs for row in rows):
        return Sampled(chosen)
    num_top = max(row.params.top_logprobs for row in rows)
    normaliser = logits.logsumexp(dim=-1, keepdim=True)
    logprobs = (logits.gather(1, token_ids[:, None]) - normaliser)[:, 0]
    if not num_top:
        return Sampled(chosen, logprobs)
    top = logits.topk(min(num_top, logits.shape[-1]), dim=-1)
    return Sampled(chosen, logprobs, top.indices, top.values - normaliser)


def token_logprobs(logits: Tensor, token_ids: Tensor) -> Tensor:
    """[S, vocab] fp32 logits and [S] ids -> [S] fp32 log-probabilities of those ids."""
    return logits.gather(1, token_ids[:, None])[:, 0] - logits.logsumexp(dim=-1)


def _sample_cut(logits: Tensor, greedy_ids: Tensor, rows: list[SamplingRow]) -> Tensor:
    """[S, vocab] -> [S] ids; rows with temperature 0 keep their greedy id."""
    columns = logits.new_tensor([(r.params.temperature, r.params.min_p, r.params.top_p, r.uniform) for r in rows])
    temperature, min_p, top_p, uniform = columns.T[..., None].unbind()  # [S, 1] each
    # The largest becomes 0 first: divided by a tiny temperature it would be infinite, and the softmax NaN.
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / torch.where(temperature > 0, temperature, 1.0)
    probs, ids = torch.softmax(scaled, dim=-1).sort(dim=-1, descending=True, stable=True)
    probs = torch.where(probs < min_p * probs[:, :1], 0.0, probs)
    if any(row.params.top_k for row in rows):
        top_k = torch.tensor([row.params.top_k or logits.shape[-1] for row in rows], device=logits.device)[:, None]
        probs = torch.where(torch.arange(logits.shape[-1], device=logits.device) < top_k, probs, 0.0)
    cumulative = probs.cumsum(dim=-1)
    kept = cumulative - probs <= top_p * cumulative[:, -1:]  # the token that crosses top_p stays in
    probs = torch.where(kept, probs, 0.0)
    cumulative = probs.cumsum(dim=-1)
    index = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    index = torch.minimum(index, (probs > 0).sum(dim=-1, keepdim=True) - 1)  # rounding must not leave the nucleus
    sampled = ids.gather(1, index.clamp_(min=0))[:, 0]
    return torch.where(temperature[:, 0] > 0, sampled, greedy_ids)
