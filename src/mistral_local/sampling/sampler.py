"""Choose the next token of each sequence from its logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mistral_local.kernels.transfer import to_device
from mistral_local.sampling.grammar.masks import TokenMasks
from mistral_local.sampling.processors import process_logits
from mistral_local.sampling.row import SamplingRow

# In place of a token id, where none could be chosen.
NOT_FINITE = -1
"""The model's logits were not finite."""
NONE_ALLOWED = -2
"""What the request allows leaves no token."""


# How many of the likeliest tokens are sorted first, and then, on a CPU.
NUM_LIKELY = (64, 1024)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was chosen for each of S rows.

    Attributes:
        token_ids: [S] int64; NOT_FINITE or NONE_ALLOWED where no token could be chosen.
        logprobs: [S] fp32 of the chosen tokens, by the model's own logits; None when nobody asked.
        top_ids, top_logprobs: [S, K], the tokens that are scored beside the chosen one, by the model's own logits; None
            when nobody asked.  A row that asked for fewer has others behind.
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
    num_top = max(row.params.num_scored_beside for row in rows)
    normaliser = logits.logsumexp(dim=-1, keepdim=True)
    logprobs = (logits.gather(1, token_ids[:, None]) - normaliser)[:, 0]
    if not num_top:
        return Sampled(chosen, logprobs)
    top_ids = logits.topk(min(num_top, logits.shape[-1]), dim=-1).indices
    for index, row in enumerate(rows):
        if scored := row.params.scored_token_ids:
            top_ids[index, : len(scored)] = torch.tensor(scored, device=logits.device)
    return Sampled(chosen, logprobs, top_ids, logits.gather(1, top_ids) - normaliser)


def token_logprobs(logits: Tensor, token_ids: Tensor) -> Tensor:
    """[S, vocab] fp32 logits and [S] ids -> [S] fp32 log-probabilities of those ids."""
    return logits.gather(1, token_ids[:, None])[:, 0] - logits.logsumexp(dim=-1)


def _sample_cut(logits: Tensor, greedy_ids: Tensor, rows: list[SamplingRow]) -> Tensor:
    """[S, vocab] -> [S] ids; rows with temperature 0 keep their greedy id."""
    params = [(row.params.temperature, row.params.min_p, row.params.top_p, row.uniform) for row in rows]
    columns = to_device(params, logits.device, logits.dtype)
    temperature, min_p, top_p, uniform = columns.T[..., None].unbind()  # [S, 1] each
    # The largest becomes 0 first: divided by a tiny temperature it would be infinite, and the softmax NaN.
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / torch.where(temperature > 0, temperature, 1.0)
    probs = torch.softmax(scaled, dim=-1)
    probs = torch.where(probs < min_p * probs.amax(dim=-1, keepdim=True), 0.0, probs)
    top_k = to_device([row.params.top_k or logits.shape[-1] for row in rows], logits.device)[:, None]
    sampled = _invert_lazily(probs, top_k, top_p, uniform)
    return torch.where(temperature[:, 0] > 0, sampled, greedy_ids)


def _invert_lazily(probs: Tensor, top_k: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """[S, vocab] probabilities, [S, 1] limits and uniform numbers -> [S] ids.

    On a CPU sorting a large vocabulary takes longer than a small model's step, and the likeliest few tokens nearly always
    decide; the rest is sorted for those rows only where they do not.  Which tokens are looked at changes no choice.
    """
    vocab_size = probs.shape[-1]
    if probs.is_cuda:
        return _invert(probs, vocab_size, top_k, top_p, uniform)[0]
    ids = torch.empty(len(probs), dtype=torch.int64)
    open_rows = torch.arange(len(probs))
    for num_likely in (*(num for num in NUM_LIKELY if num < vocab_size), vocab_size):
        chosen, is_sure = _invert(probs[open_rows], num_likely, top_k[open_rows], top_p[open_rows], uniform[open_rows])
        ids[open_rows] = chosen
        open_rows = open_rows[~is_sure]
        if not len(open_rows):
            break
    return ids


def _invert(probs: Tensor, num_likely: int, top_k: Tensor, top_p: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Cut by top_k and top_p and invert at the uniform numbers, looking at the likeliest tokens only.

    Returns:
        [S] ids, and [S] bool: whether the other tokens could not have changed the choice.
    """
    vocab_size = probs.shape[-1]
    likely, ids = _likeliest(probs, num_likely)
    likely = torch.where(torch.arange(num_likely, device=probs.device) < top_k, likely, 0.0)
    num_possible = torch.minimum(top_k, (probs > 0).sum(dim=-1, keepdim=True))
    holds_top_k = (likely > 0).sum(dim=-1, keepdim=True) >= num_possible
    cumulative = likely.cumsum(dim=-1)
    seen = cumulative[:, -1:]
    total = torch.where(top_k < vocab_size, seen, probs.sum(dim=-1, keepdim=True))
    kept = cumulative - likely <= top_p * total  # the token that crosses top_p stays in
    likely = torch.where(kept, likely, 0.0)
    cumulative = likely.cumsum(dim=-1)
    mass = torch.where(top_p < 1, cumulative[:, -1:], total)
    index = torch.searchsorted(cumulative, uniform * mass, right=True)
    num_kept = (likely > 0).sum(dim=-1, keepdim=True)
    index = torch.minimum(index, num_kept - 1).clamp_(min=0)  # rounding must not leave the nucleus
    reaches = seen > torch.where(top_p < 1, top_p * total, uniform * mass)
    is_sure = torch.where(top_k < vocab_size, holds_top_k, reaches)
    return ids.gather(1, index)[:, 0], is_sure[:, 0] | (num_likely == vocab_size)


def _likeliest(probs: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """The beginning of a stable sort by falling probability: [S, num] probabilities and ids.

    Tokens as likely as the last one count as 0, because others as likely may have been left out.
    """
    if num == probs.shape[-1]:
        return probs.sort(dim=-1, descending=True, stable=True)
    likely, ids = probs.topk(num, dim=-1)
    ids, order = ids.sort(dim=-1)
    likely, order = likely.gather(1, order).sort(dim=-1, descending=True, stable=True)
    return torch.where(likely > likely[:, -1:], likely, 0.0), ids.gather(1, order)
