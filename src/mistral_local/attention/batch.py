"""The tensors of one step, and where each sequence's keys lie."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mistral_local.errors import ShapeError
from mistral_local.kvcache.block_pool import BlockTable


@dataclass(frozen=True, slots=True)
class SequenceSpan:
    """One sequence's part of a packed step.

    Attributes:
        query_start: index of its first query in the packed tokens.
        query_len: tokens computed in this step.
        context_len: tokens whose keys its last query sees without a window: all before, and those of this step.
        key_slots: where the keys of positions 0 .. context_len - 1 lie in a LayerCache: one slice when they are
            contiguous, else [context_len] int64 slots; None when there is no cache and the keys are the queries' own.
    """

    query_start: int
    query_len: int
    context_len: int
    key_slots: slice | Tensor | None

    @property
    def query_end(self) -> int:
        return self.query_start + self.query_len


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """What attention needs beside q, k and v; the same for every layer.

    Attributes:
        spans: the sequences of the step, in packed order.
        slot_mapping: [T] int64, where the new keys and values go; None without a cache.
    """

    spans: tuple[SequenceSpan, ...]
    slot_mapping: Tensor | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The packed tokens of one step, without padding.

    Attributes:
        input_ids, positions: [T] int64 on the model's device.
        attention: who sees what.
    """

    input_ids: Tensor
    positions: Tensor
    attention: AttentionMetadata


def slots_of(table: BlockTable, start: int, end: int, block_size: int) -> slice | Tensor:
    """Flat cache slots of the token positions start .. end - 1 of a sequence.

    With block_size 4 and blocks [7, 8], positions 2 .. 5 are slice(30, 34); with blocks [7, 3] they are the tensor
    [30, 31, 12, 13].
    """
    if table.is_contiguous:
        first = table.blocks[0] * block_size
        return slice(first + start, first + end)
    for block in table.blocks[len(table.slots) // block_size :]:
        table.slots.extend(range(block * block_size, (block + 1) * block_size))
    # A copy, because an array whose memory is in use cannot grow.
    return torch.frombuffer(table.slots, dtype=torch.int64, count=end)[start:].clone()


def uncached_batch(input_ids: Tensor, seqlens: list[int]) -> Batch:
    """Pack whole sequences that are computed without a KV cache.

    Args:
        input_ids: [sum(seqlens)] int64.
        seqlens: length of each sequence, in packed order.

    Raises:
        ShapeError: if the lengths are not positive or do not add up to the number of tokens.
    """
    if (
        not seqlens
        or input_ids.ndim != 1
        or sum(seqlens) != input_ids.shape[0]
        or any(length < 1 for length in seqlens)
    ):
        raise ShapeError(f"input_ids: expected [sum(seqlens)] with seqlens {seqlens}, got {list(input_ids.shape)}")
    spans, start = [], 0
    for length in seqlens:
        spans.append(SequenceSpan(start, length, length, None))
        start += length
    positions = torch.cat([torch.arange(length) for length in seqlens]).to(input_ids.device)
    return Batch(input_ids, positions, AttentionMetadata(tuple(spans), None))
