"""Bytes of fp8 (e4m3, without infinities: arXiv:2209.05433), by integer operations that every GPU has."""

import triton
import triton.language as tl

WIDENED = tl.constexpr(256.0)
"""What widen_e4m3() leaves to be multiplied by."""


@triton.jit
def widen_e4m3(stored):
    """Bytes -> fp16, 1 / WIDENED of the numbers that they stand for; NaN is taken for a number."""
    bits = stored.to(tl.uint16)
    return (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True)


@triton.jit
def narrow_to_e4m3(numbers):
    """fp32 of at most 448 -> bytes, rounded to the nearest, ties to the even one."""
    bits = numbers.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    # The exponent's bias is 127 here and 7 there, and 3 of 23 bits of the mantissa stay.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3)
    # Below 2^-6 the steps are 2^-9, which are the last bits of numbers from 2^14 on.
    tiny = (tl.abs(numbers) + 16384.0).to(tl.int32, bitcast=True) & 15
    code = tl.where(magnitude < 121 << 23, tiny, normal)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)
