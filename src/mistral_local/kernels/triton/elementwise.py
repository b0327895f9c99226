"""Norm, gate, and rotation with the write to the KV cache: one kernel each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mistral_local.kernels.triton.e4m3 import narrow_to_e4m3

E4M3_MAX = tl.constexpr(448.0)
GATE_BLOCK = 1024


@triton.jit
def normalize(x, rstd, scale):
    """x / root mean square, rounded before it is scaled, as the plain twin does."""
    return ((x.to(tl.float32) * rstd).to(x.dtype).to(tl.float32) * scale.to(tl.float32)).to(x.dtype)


@triton.jit
def gated(gate, up):
    """silu(gate) * up, rounded between, as the plain twin does."""
    wide = gate.to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype).to(tl.float32)
    return (silu * up.to(tl.float32)).to(gate.dtype)


@triton.jit
def add(x, y):
    """x + y, rounded once."""
    return (x.to(tl.float32) + y.to(tl.float32)).to(x.dtype)


@triton.jit
def _rms_norm(x, added, weight, total, out, dim, eps, ADDED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    is_number = i < dim
    at = tl.program_id(0).to(tl.int64) * dim + i
    numbers = tl.load(x + at, mask=is_number, other=0.0)
    if ADDED:
        numbers = add(numbers, tl.load(added + at, mask=is_number, other=0.0))
        tl.store(total + at, numbers, mask=is_number)
    wide = numbers.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(wide * wide, 0) / dim + eps)
    scale = tl.load(weight + i, mask=is_number, other=0.0)
    tl.store(out + at, normalize(numbers, rstd, scale), mask=is_number)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[T, dim], [dim] -> [T, dim], as kernels.rms_norm.rms_norm."""
    x = x.contiguous()
    out = torch.empty_like(x)
    block = triton.next_power_of_2(x.shape[1])
    _rms_norm[(x.shape[0],)](x, x, weight, out, out, x.shape[1], eps, ADDED=False, BLOCK=block)
    return out


def add_rms_norm(x: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """[T, dim] twice, [dim] -> x + added, and its norm."""
    x, added = x.contiguous(), added.contiguous()
    total, out = torch.empty_like(x), torch.empty_like(x)
    block = triton.next_power_of_2(x.shape[1])
    _rms_norm[(x.shape[0],)](x, added, weight, total, out, x.shape[1], eps, ADDED=True, BLOCK=block)
    return total, out


@triton.jit
def _swiglu(gate, up, gate_stride, up_stride, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_number = i < width
    g = tl.load(gate + row * gate_stride + i, mask=is_number, other=0.0)
    u = tl.load(up + row * up_stride + i, mask=is_number, other=0.0)
    tl.store(gate + row * gate_stride + i, gated(g, u), mask=is_number)


def swiglu_(gate: Tensor, up: Tensor) -> Tensor:
    """gate [T, hidden] becomes silu(gate) * up; both may be columns of something wider."""
    rows, width = gate.shape
    _swiglu[rows, triton.cdiv(width, GATE_BLOCK)](gate, up, gate.stride(0), up.stride(0), width, BLOCK=GATE_BLOCK)
    return gate


# As in paged_attention, where slots begin depends on how many tokens a step has.
@triton.jit(do_not_specialize_on_alignment=["slots"])
def _rotate_and_store(
    q, k, v, q_stride, k_stride, v_stride, rotation, out, k_cache, v_cache, k_scales, v_scales, slots,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pair = tl.arange(0, HALF)
    is_pair = pair < HEAD_DIM // 2
    cos = tl.load(rotation + (token * (HEAD_DIM // 2) + pair) * 2, mask=is_pair, other=0.0)
    sin = tl.load(rotation + (token * (HEAD_DIM // 2) + pair) * 2 + 1, mask=is_pair, other=0.0)
    if head < HEADS:
        re, im = _rotated(q + token * q_stride + head * HEAD_DIM, cos, sin, pair, is_pair)
        at = out + (token * HEADS + head) * HEAD_DIM + pair * 2
        tl.store(at, re, mask=is_pair)
        tl.store(at + 1, im, mask=is_pair)
    else:
        of_head = (head - HEADS) * HEAD_DIM
        of_slot = tl.load(slots + token) * KV_HEADS + head - HEADS
        rotated_re, rotated_im = _rotated(k + token * k_stride + of_head, cos, sin, pair, is_pair)
        of_v = v + token * v_stride + of_head + pair * 2
        v_re, v_im = tl.load(of_v, mask=is_pair, other=0.0), tl.load(of_v + 1, mask=is_pair, other=0.0)
        if FP8:
            _store_rounded(rotated_re, rotated_im, k_cache, k_scales, of_slot, pair, is_pair, HEAD_DIM)
            _store_rounded(v_re, v_im, v_cache, v_scales, of_slot, pair, is_pair, HEAD_DIM)
        else:
            of_pair = of_slot * HEAD_DIM + pair * 2
            tl.store(k_cache + of_pair, rotated_re, mask=is_pair)
            tl.store(k_cache + of_pair + 1, rotated_im, mask=is_pair)
            tl.store(v_cache + of_pair, v_re, mask=is_pair)
            tl.store(v_cache + of_pair + 1, v_im, mask=is_pair)


@triton.jit
def _rotated(at, cos, sin, pair, is_pair):
    """The pairs of a head: first numbers, second numbers, of its dtype."""
    re = tl.load(at + pair * 2, mask=is_pair, other=0.0).to(tl.float32)
    im = tl.load(at + pair * 2 + 1, mask=is_pair, other=0.0).to(tl.float32)
    return (re * cos - im * sin).to(at.dtype.element_ty), (re * sin + im * cos).to(at.dtype.element_ty)


@triton.jit
def _store_rounded(re, im, cache, scales, of_slot, pair, is_pair, HEAD_DIM: tl.constexpr):
    """Write a head in fp8, with the scale that its largest number needs, as kernels.quantized.quantize rounds a row."""
    re, im = re.to(tl.float32), im.to(tl.float32)
    largest = tl.maximum(tl.max(tl.abs(re), 0), tl.max(tl.abs(im), 0))
    largest += 0.0 * (tl.sum(re, 0) + tl.sum(im, 0))  # what is not finite shows in the scale
    scale = tl.where(largest == 0.0, 1.0, tl.div_rn(largest, E4M3_MAX))
    tl.store(scales + of_slot, scale)
    at = cache + of_slot * HEAD_DIM + pair * 2
    tl.store(at, narrow_to_e4m3(tl.div_rn(re, scale)), mask=is_pair)
    tl.store(at + 1, narrow_to_e4m3(tl.div_rn(im, scale)), mask=is_pair)


def rotate_and_store(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rotation: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slot_mapping: Tensor,
    *,
    k_scales: Tensor | None = None,
    v_scales: Tensor | None = None,
) -> Tensor:
    """Rotate q, and write rotated k, and v, to the cache.

    Args:
        q, k, v: [T, heads, head_dim] and [T, n_kv_heads, head_dim]; rows may be columns of something wider.
        rotation: [T, 1, head_dim / 2] complex64.
        k_cache, v_cache: [num_slots, n_kv_heads, head_dim], contiguous; of the dtype of k and v, or in fp8 with scales.
        slot_mapping: [T] int64.
        k_scales, v_scales: [num_slots, n_kv_heads] fp32, written too.

    Returns:
        q rotated, [T, heads, head_dim], contiguous.
    """
    assert all(t[:1].is_contiguous() for t in (q, k, v))
    is_fp8 = k_scales is not None
    if is_fp8:
        k_cache, v_cache = k_cache.view(torch.uint8), v_cache.view(torch.uint8)
    num_tokens, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    out = q.new_empty(q.shape)
    _rotate_and_store[num_tokens, heads + kv_heads](
        q, k, v, q.stride(0), k.stride(0), v.stride(0), torch.view_as_real(rotation).contiguous(),
        out, k_cache, v_cache, k_scales if is_fp8 else k_cache, v_scales if is_fp8 else v_cache, slot_mapping,
        HEADS=heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim, HALF=triton.next_power_of_2(head_dim // 2), FP8=is_fp8,
    )  # fmt: skip
    return out
