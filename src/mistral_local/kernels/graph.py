"""Queue many kernels at one call: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def reasons_against_graphs(device: torch.device) -> list[str]:
    """Why nothing can be recorded on a device; empty when it can."""
    return [] if device.type == "cuda" else [f"graphs of kernels are recorded on CUDA only, not on {device.type}"]


class GraphRecorder:
    """Records graphs that share the memory of their intermediate results: one of them runs at a time."""

    def __init__(self) -> None:
        self._pool: Any = None  # an opaque name
        self._stream: torch.cuda.Stream | None = None

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record what `run` queues, without running it.

        Every kernel of it must have run before, so that it is compiled; it reads and writes tensors where they lie now, and
        numbers of the host as they are now.

        Returns:
            A function that queues it all again and returns the tensor that `run` returned, which the next call overwrites.

        Raises:
            RuntimeError: if it waits for the device, or there is no memory.

        On the current device.
        """
        if self._pool is None or self._stream is None:
            # torch's own stream for this is on whichever device was the first to record.
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            output = run()

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay
