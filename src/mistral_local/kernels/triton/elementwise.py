"""Norm, gate, and rotation with the write to the KV cache: one kernel each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

GATE_BLOCK = 1024


@triton.jit
def _rms_norm(x, weight, out, dim, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    numbers = tl.load(x + row * dim + i, mask=i < dim, other=0.0)
    wide = numbers.to(tl.float32)
    normed = wide * tl.rsqrt(tl.sum(wide * wide, 0) / dim + eps)
    scale = tl.load(weight + i, mask=i < dim, other=0.0)
    # Rounded before it is scaled, as the plain twin does.
    result = normed.to(numbers.dtype).to(tl.float32) * scale.to(tl.float32)
    tl.store(out + row * dim + i, result.to(numbers.dtype), mask=i < dim)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[T, dim], [dim] -> [T, dim], as kernels.rms_norm.rms_norm."""
    x = x.contiguous()
    out = torch.empty_like(x)
    _rms_norm[(x.shape[0],)](x, weight, out, x.shape[1], eps, BLOCK=triton.next_power_of_2(x.shape[1]))
    return out


@triton.jit
def _swiglu(gate, up, num, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gate + i, mask=i < num, other=0.0)
    wide = g.to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(g.dtype).to(tl.float32)
    result = silu * tl.load(up + i, mask=i < num, other=0.0).to(tl.float32)
    tl.store(gate + i, result.to(g.dtype), mask=i < num)


def swiglu_(gate: Tensor, up: Tensor) -> Tensor:
    """gate [T, hidden] becomes silu(gate) * up; both contiguous."""
    _swiglu[(triton.cdiv(gate.numel(), GATE_BLOCK),)](gate, up, gate.numel(), BLOCK=GATE_BLOCK)
    return gate


@triton.jit
def _rotate_and_store(
    q, k, v, rotation, k_cache, v_cache, slots,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pair = tl.arange(0, HALF)
    is_pair = pair < HEAD_DIM // 2
    cos = tl.load(rotation + (token * (HEAD_DIM // 2) + pair) * 2, mask=is_pair, other=0.0)
    sin = tl.load(rotation + (token * (HEAD_DIM // 2) + pair) * 2 + 1, mask=is_pair, other=0.0)
    if head < HEADS:
        at = q + (token * HEADS + head) * HEAD_DIM + pair * 2
        re, im = tl.load(at, mask=is_pair).to(tl.float32), tl.load(at + 1, mask=is_pair).to(tl.float32)
        tl.store(at, (re * cos - im * sin).to(q.dtype.element_ty), mask=is_pair)
        tl.store(at + 1, (re * sin + im * cos).to(q.dtype.element_ty), mask=is_pair)
    else:
        of_token = (token * KV_HEADS + head - HEADS) * HEAD_DIM + pair * 2
        of_slot = (tl.load(slots + token) * KV_HEADS + head - HEADS) * HEAD_DIM + pair * 2
        re = tl.load(k + of_token, mask=is_pair).to(tl.float32)
        im = tl.load(k + of_token + 1, mask=is_pair).to(tl.float32)
        tl.store(k_cache + of_slot, (re * cos - im * sin).to(k.dtype.element_ty), mask=is_pair)
        tl.store(k_cache + of_slot + 1, (re * sin + im * cos).to(k.dtype.element_ty), mask=is_pair)
        tl.store(v_cache + of_slot, tl.load(v + of_token, mask=is_pair), mask=is_pair)
        tl.store(v_cache + of_slot + 1, tl.load(v + of_token + 1, mask=is_pair), mask=is_pair)


def rotate_and_store_(
    q: Tensor, k: Tensor, v: Tensor, rotation: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor
) -> Tensor:
    """Rotate q in place, and write rotated k, and v, to the cache.

    Args:
        q, k, v: [T, heads, head_dim] and [T, n_kv_heads, head_dim], contiguous.
        rotation: [T, 1, head_dim / 2] complex64.
        k_cache, v_cache: [num_slots, n_kv_heads, head_dim], contiguous.
        slot_mapping: [T] int64.

    Returns:
        q.
    """
    num_tokens, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    _rotate_and_store[num_tokens, heads + kv_heads](
        q, k, v, torch.view_as_real(rotation).contiguous(), k_cache, v_cache, slot_mapping,
        HEADS=heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim, HALF=triton.next_power_of_2(head_dim // 2),
    )  # fmt: skip
    return q
