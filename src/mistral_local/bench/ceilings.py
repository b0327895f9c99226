"""What the machine can do at best, measured in the same run as what it is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import linear

from mistral_local.memory import free_bytes

MAX_PROBE_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}
"""Larger than any cache, and long enough on a GPU that the wait for it does not count."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Rates of one device.

    Attributes:
        read_bytes_per_s: reading memory, the best of several ways; on a GPU a copy is one of them, where bytes read and
            bytes written count.
        flops: multiplying matrices of random numbers in the model's dtype, operations per second.
    """

    read_bytes_per_s: float
    flops: float

    def of_several(self, num_devices: int) -> Ceilings:
        """What so many such devices do together."""
        return Ceilings(num_devices * self.read_bytes_per_s, num_devices * self.flops)


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Probe a device for about two seconds; on a GPU with up to 10 GB of its free memory."""
    return Ceilings(_memory_rate(device, dtype), _product_rate(device, dtype))


def _memory_rate(device: torch.device, dtype: torch.dtype) -> float:
    nbytes = _probe_bytes(device)
    flat = torch.randn(nbytes // 4, device=device)
    matrix = flat.view(8192, -1)
    vector = torch.randn(matrix.shape[1], device=device)
    narrow = matrix.to(dtype)
    row = vector.to(dtype)[None]
    rates = [
        nbytes / best_seconds(device, flat.sum),
        nbytes / best_seconds(device, lambda: torch.mv(matrix, vector)),
        narrow.nbytes / best_seconds(device, lambda: linear(row, narrow)),
    ]
    if device.type == "cuda":
        copy = torch.empty_like(flat)
        rates.append(2 * nbytes / best_seconds(device, lambda: copy.copy_(flat)))
    return max(rates)


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, 2 * size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size * size * 2 * size / best_seconds(device, lambda: linear(a, b))


def _probe_bytes(device: torch.device) -> int:
    """A power of two, at most a quarter of what is free."""
    nbytes = MAX_PROBE_BYTES.get(device.type, MAX_PROBE_BYTES["cpu"])
    free = free_bytes(device)
    while free is not None and nbytes > max(free // 4, 1 << 20):
        nbytes //= 2
    return nbytes


def best_seconds(device: torch.device, work: Callable[[], object], *, budget_s: float = 0.5) -> float:
    """The shortest time of one call, repeated for `budget_s`."""
    work()
    best = float("inf")
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end:
        start = now(device)
        work()
        best = min(best, now(device) - start)
    return best


def now(device: torch.device) -> float:
    """Seconds, after all work of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
