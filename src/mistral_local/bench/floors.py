"""The least time that a step can take: every weight read once, every product computed once."""

import torch

from mistral_local.args import TransformerArgs
from mistral_local.bench.ceilings import Ceilings
from mistral_local.kvcache.storage import kv_bytes_per_token


def decode_floor_s(
    args: TransformerArgs,
    ceilings: Ceilings,
    *,
    batch_size: int,
    context: float,
    itemsize: int,
    matrix_itemsize: float | None = None,
    kv_dtype: torch.dtype | None = None,
) -> float:
    """Seconds of one decode step.

    Args:
        context: mean number of tokens whose keys and values a sequence reads.
        itemsize: bytes per number, of weights and cache.
        matrix_itemsize: the same of the matrices inside the blocks, if they are quantized.
        kv_dtype: what keys and values are stored in, if not in numbers of itemsize bytes.

    Of E experts with k chosen per token, a batch of B reads E * (1 - (1 - k / E)^B) on average.
    """
    attention, expert, head, num_experts, k = _parameters(args)
    hit = num_experts * (1 - (1 - k / num_experts) ** batch_size)
    weights = args.n_layers * (attention + hit * expert) * (matrix_itemsize or itemsize) + head * itemsize
    per_token = 2 * args.n_layers * args.n_kv_heads * args.head_dim * itemsize
    if kv_dtype is not None:
        per_token = kv_bytes_per_token(
            n_layers=args.n_layers, n_kv_heads=args.n_kv_heads, head_dim=args.head_dim, dtype=kv_dtype
        )
    cached = per_token * context * batch_size
    active = args.n_layers * (attention + k * expert) + head
    flop = batch_size * (2 * active + 4 * args.n_layers * args.n_heads * args.head_dim * context)
    return max((weights + cached) / ceilings.read_bytes_per_s, flop / ceilings.flops)


def prefill_floor_s(args: TransformerArgs, ceilings: Ceilings, *, num_tokens: int, itemsize: int) -> float:
    """Seconds to compute one prompt, with logits of its last token only."""
    attention, expert, head, num_experts, k = _parameters(args)
    flop = 2 * num_tokens * args.n_layers * (attention + k * expert) + 2 * head
    flop += 2 * args.n_layers * args.n_heads * args.head_dim * num_tokens**2  # causal: half of all pairs
    weights = args.n_layers * (attention + num_experts * expert) + head
    return max(flop / ceilings.flops, weights * itemsize / ceilings.read_bytes_per_s)


def _parameters(args: TransformerArgs) -> tuple[int, int, int, int, int]:
    """Numbers in a layer's attention, in one expert, in the output matrix; experts, and experts per token."""
    attention = 2 * args.dim * args.head_dim * (args.n_heads + args.n_kv_heads)
    expert = 3 * args.dim * args.hidden_dim
    num_experts, k = (args.moe.num_experts, args.moe.num_experts_per_tok) if args.moe else (1, 1)
    return attention, expert, args.vocab_size * args.dim, num_experts, k
