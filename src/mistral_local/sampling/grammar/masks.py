"""Token masks: which ids a grammar allows next, computed while the model runs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from llguidance import LLExecutor
from torch import Tensor

from mistral_local.sampling.grammar.grammar import GrammarState

BITS = 32


@dataclass(frozen=True, slots=True)
class TokenMasks:
    """The masks of those rows of a step that have a grammar.

    Attributes:
        rows: which rows of the logits, M of them, ascending.
        bits: [M, ceil(vocab / 32)] int32 on the CPU; bit i of word w allows token 32 w + i.
    """

    rows: list[int]
    bits: Tensor

    def apply(self, logits: Tensor) -> Tensor:
        """[S, vocab] logits -> the same with -inf for every forbidden token; a new tensor."""
        allowed = unpack(self.bits, logits.shape[-1], logits.device)
        if len(self.rows) == len(logits):
            return logits.masked_fill(~allowed, -torch.inf)
        rows = torch.tensor(self.rows, device=logits.device)
        return logits.index_put((rows,), logits[rows].masked_fill(~allowed, -torch.inf))


def unpack(bits: Tensor, vocab_size: int, device: torch.device) -> Tensor:
    """[M, ceil(vocab / 32)] int32 on the CPU -> [M, vocab] bool on `device`."""
    if device.type == "cpu":
        octets = bits.numpy().view(np.uint8)
        return torch.from_numpy(np.unpackbits(octets, axis=1, count=vocab_size, bitorder="little").view(np.bool_))
    return unpack_on_device(bits.to(device, non_blocking=True), vocab_size)


def unpack_on_device(bits: Tensor, vocab_size: int) -> Tensor:
    """[M, ceil(vocab / 32)] int32 -> [M, vocab] bool, where the bits are."""
    shifts = torch.arange(BITS, device=bits.device, dtype=torch.int32)
    return ((bits[:, :, None] >> shifts) & 1).bool().flatten(1)[:, :vocab_size]


class MaskWorker:
    """Computes masks on a thread of its own: llguidance lets go of the interpreter, and the model runs meanwhile.

    Args:
        vocab_size: of the logits.
        device: of the logits.  Beside a model on the CPU one thread computes; beside a GPU as many as llguidance likes.
    """

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._num_words = -(-vocab_size // BITS)
        self._device = device
        self._thread: ThreadPoolExecutor | None = None
        self._executor: LLExecutor | None = None

    def start(self, states: list[GrammarState | None]) -> PendingMasks | None:
        """Begin with the masks of a step.

        Args:
            states: of each row; they must not be advanced before the masks are waited for.

        Returns:
            None when no row has a grammar.
        """
        rows = [row for row, state in enumerate(states) if state is not None]
        if not rows:
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="mistral_local masks")
            self._executor = LLExecutor(1 if self._device.type == "cpu" else None)
        chosen = [state for state in states if state is not None]
        return PendingMasks(self._thread.submit(self._compute, rows, chosen))

    def _compute(self, rows: list[int], states: list[GrammarState]) -> TokenMasks:
        assert self._executor is not None
        # Zeros forbid everything: what a matcher in error leaves.
        bits = torch.zeros(len(rows), self._num_words, dtype=torch.int32, pin_memory=self._device.type == "cuda")
        work = [(state.matcher, row) for row, state in enumerate(states)]
        self._executor.unsafe_compute_mask_ptr(work, bits.data_ptr(), self._num_words * 4, len(rows))
        for row, state in enumerate(states):
            if state.matcher.is_error():
                bits[row] = 0
        return TokenMasks(rows, bits)


class PendingMasks:
    """Masks on their way."""

    def __init__(self, future: Future[TokenMasks]) -> None:
        self._future = future

    def wait(self) -> TokenMasks:
        """The masks, as soon as they are there."""
        return self._future.result()
