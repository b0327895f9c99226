"""Which attention backend serves a device."""

from collections.abc import Iterator
from functools import cache

import torch

from mistral_local.attention.backend import AttentionBackend
from mistral_local.attention.native import NativeBackend
from mistral_local.attention.sdpa import SdpaBackend
from mistral_local.attention.triton import TritonBackend
from mistral_local.attention.xformers import XformersBackend
from mistral_local.kernels.native import reasons_against_native
from mistral_local.kernels.triton import reasons_against_triton


def reasons_against_xformers(
    device: torch.device, dtype: torch.dtype, head_dim: int, kv_dtype: torch.dtype | None = None
) -> list[str]:
    """Why xformers cannot serve; empty when it can.  Imports nothing of it unless the device is CUDA."""
    if device.type != "cuda":
        return [f"xformers runs on CUDA only, not on {device.type}"]
    reasons = _reasons_against_kv_dtype("xformers reads", dtype, kv_dtype)
    if dtype not in (torch.float16, torch.bfloat16):
        reasons.append(f"xformers' fast kernels take float16 and bfloat16, not {dtype}")
    if head_dim % 8 or head_dim > 256:
        reasons.append(f"xformers' fast kernels take head dimensions of 8, 16 .. 256, not {head_dim}")
    if torch.cuda.get_device_capability(device) < (8, 0):
        reasons.append("xformers' fast kernels need compute capability 8.0")
    try:
        import xformers.ops  # noqa: F401
    except (ImportError, OSError) as error:
        reasons.append(f"xformers cannot be imported ({error}); pip install xformers")
    return reasons


def reasons_against_triton_attention(device: torch.device, head_dim: int) -> list[str]:
    """Why Triton's kernels cannot serve; empty when they can."""
    reasons = reasons_against_triton(device)
    if head_dim not in (16, 32, 64, 128, 256):
        reasons.append(f"Triton's attention takes head dimensions of 16, 32, 64, 128 and 256, not {head_dim}")
    return reasons


def reasons_against_native_attention(
    device: torch.device, dtype: torch.dtype, head_dim: int, kv_dtype: torch.dtype | None = None
) -> list[str]:
    """Why the compiled kernels cannot serve; empty when they can."""
    reasons = reasons_against_native(device, dtype)
    reasons += _reasons_against_kv_dtype("compiled attention reads", dtype, kv_dtype)
    if head_dim % 32 or head_dim > 256:
        reasons.append(f"compiled attention takes head dimensions of 32, 64 .. 256, not {head_dim}")
    return reasons


def _reasons_against_kv_dtype(who_reads: str, dtype: torch.dtype, kv_dtype: torch.dtype | None) -> list[str]:
    if kv_dtype is None or kv_dtype == dtype:
        return []
    return [f"{who_reads} keys and values in the model's dtype, not in {kv_dtype}"]


@cache
def select_backend(
    device: torch.device, dtype: torch.dtype, head_dim: int, kv_dtype: torch.dtype | None = None
) -> AttentionBackend:
    """The fastest backend that can serve a model.

    Args:
        kv_dtype: what keys and values are stored in; None stands for the model's dtype.
    """
    able = (backend() for backend, reasons in _candidates(device, dtype, head_dim, kv_dtype) if not reasons)
    return next(able, SdpaBackend())


def reasons_against(
    device: torch.device, dtype: torch.dtype, head_dim: int, kv_dtype: torch.dtype | None = None
) -> dict[str, list[str]]:
    """Why each backend cannot serve, by its name, the fastest first; sdpa always can, and is not named."""
    return {backend.name: reasons for backend, reasons in _candidates(device, dtype, head_dim, kv_dtype)}


def _candidates(
    device: torch.device, dtype: torch.dtype, head_dim: int, kv_dtype: torch.dtype | None
) -> Iterator[tuple[type[AttentionBackend], list[str]]]:
    """Backends and what speaks against them; asked no further than somebody looks."""
    yield TritonBackend, reasons_against_triton_attention(device, head_dim)
    yield XformersBackend, reasons_against_xformers(device, dtype, head_dim, kv_dtype)
    yield NativeBackend, reasons_against_native_attention(device, dtype, head_dim, kv_dtype)
