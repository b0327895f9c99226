"""Token masks: which ids a grammar allows next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from llguidance import LLExecutor
from torch import Tensor

from mistral_local.kernels.transfer import to_device
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
        """[S, vocab] fp32 logits -> the same with -inf for every forbidden token; a new tensor."""
        forbidden = unpack(self.bits, logits.shape[-1], logits.device)
        # On a CPU, where() is twice as fast as masked_fill().
        if len(self.rows) == len(logits):
            return torch.where(forbidden, -torch.inf, logits)
        rows = to_device(self.rows, logits.device)
        return logits.index_put((rows,), torch.where(forbidden, -torch.inf, logits[rows]))


def unpack(bits: Tensor, vocab_size: int, device: torch.device) -> Tensor:
    """[M, ceil(vocab / 32)] int32 on the CPU -> [M, vocab] bool on `device`: what is forbidden."""
    if device.type != "cpu":
        return unpack_on_device(bits.to(device, non_blocking=True), vocab_size)
    octets = ~bits.numpy().view(np.uint8)
    return torch.from_numpy(np.unpackbits(octets, axis=1, count=vocab_size, bitorder="little").view(np.bool_))


def unpack_on_device(bits: Tensor, vocab_size: int) -> Tensor:
    """The same from bits that are on the device."""
    shifts = torch.arange(BITS, device=bits.device, dtype=torch.int32)
    return ((bits[:, :, None] >> shifts) & 1).logical_not().flatten(1)[:, :vocab_size]


class MaskComputer:
    """Computes the masks of a step, without holding the interpreter lock.

    Called when the step's kernels are queued, it works while a GPU does.  Beside a GPU it uses as many threads as llguidance
    likes.  A model on the CPU leaves nothing to overlap with: there a thread cost a small model more than its masks do.

    Args:
        vocab_size: of the logits.
        device: of the logits.
    """

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._num_words = -(-vocab_size // BITS)
        self._device = device
        self._executor: LLExecutor | None = None

    def compute(self, states: list[GrammarState | None]) -> TokenMasks | None:
        """The masks of each row that has a grammar; None when no row has one."""
        rows = [row for row, state in enumerate(states) if state is not None]
        if not rows:
            return None
        chosen = [state for state in states if state is not None]
        bits = torch.zeros(len(rows), self._num_words, dtype=torch.int32, pin_memory=self._device.type == "cuda")
        self._fill(bits, chosen)
        for row, state in enumerate(chosen):
            if state.matcher.is_error():
                bits[row] = 0  # nothing is allowed
        return TokenMasks(rows, bits)

    def _fill(self, bits: Tensor, states: list[GrammarState]) -> None:
        start, num_bytes = bits.data_ptr(), self._num_words * 4
        if self._device.type == "cpu":
            for row, state in enumerate(states):
                state.matcher.unsafe_compute_mask_ptr(start + row * num_bytes, num_bytes)
            return
        self._executor = self._executor or LLExecutor()
        work = [(state.matcher, row) for row, state in enumerate(states)]
        self._executor.unsafe_compute_mask_ptr(work, start, num_bytes, len(states))
