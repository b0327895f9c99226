"""To a device and back: small numbers, without waiting for it, and this thread's kernels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Let a device be the current one of this thread, where kernels that are no torch operations are queued."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def to_device(values: Sequence[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of `values` on `device`; the copy to a GPU is queued like a kernel."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class HostCopy:
    """Tensors of a device on their way to the host; a copy from a GPU is queued like a kernel."""

    def __init__(self, tensors: list[Tensor | None], device: torch.device) -> None:
        self._tensors = [
            None if tensor is None else tensor.to("cpu", non_blocking=tensor.is_cuda) for tensor in tensors
        ]
        self._is_done: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._is_done = torch.cuda.current_stream(device).record_event()

    def wait(self) -> list[Tensor | None]:
        """The tensors on the host, when all that was queued before them is done; so too if there are none."""
        if self._is_done is not None:
            self._is_done.synchronize()
        return self._tensors
