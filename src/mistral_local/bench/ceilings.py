"""What the machine can do at best, measured in the same run as what it is compared with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import linear

PROBE_BYTES = 256 << 20
"""Larger than any cache."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Rates of one device.

    Attributes:
        read_bytes_per_s: reading memory, the best of several ways.
        flops: multiplying matrices of random numbers in the model's dtype, operations per second.
    """

    read_bytes_per_s: float
    flops: float

    def of_several(self, num_devices: int) -> Ceilings:
        """What so many such devices do together."""
        return Ceilings(num_devices * self.read_bytes_per_s, num_devices * self.flops)


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Probe a device for about two seconds."""
    flat = torch.randn(PROBE_BYTES // 4, device=device)
    matrix = flat.view(8192, -1)
    vector = torch.randn(matrix.shape[1], device=device)
    narrow = matrix.to(dtype)
    row = vector.to(dtype)[None]
    reads = [
        PROBE_BYTES / best_seconds(device, flat.sum),
        PROBE_BYTES / best_seconds(device, lambda: torch.mv(matrix, vector)),
        narrow.nbytes / best_seconds(device, lambda: linear(row, narrow)),
    ]
    size = 4096 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, 2 * size, device=device, dtype=dtype) for _ in range(2))
    flops = 2 * size * size * 2 * size / best_seconds(device, lambda: linear(a, b))
    return Ceilings(max(reads), flops)


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
