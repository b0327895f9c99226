"""The tensors of one step, and where each sequence's keys lie."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from mistral_local.errors import ShapeError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SequenceSpan:
    """One sequence's part of a packed step.

    Attributes:
        query_start: index of its first query in the packed tokens.
        query_len: tokens computed in this step.
        context_len: tokens whose keys its last query sees without a window: all before, and those of this step.
        key_slots: where the keys of positions 0 .. context_len - 1 lie in a LayerCache: one slice when they are
            contiguous, else [context_len] int64 slots; None when there is no cache and the keys are the queries' own, or
            when the backend reads block tables.
    """

    query_start: int
    query_len: int
    context_len: int
    key_slots: slice | Tensor | None

    @property
    def query_end(self) -> int:
        return self.query_start + self.query_len


@dataclass(frozen=True, slots=True)
class PagedTables:
    """Where keys lie, for kernels that look it up themselves; tensors on the device that keep their place.

    Attributes:
        block_tables: [rows, most blocks of a sequence] int32 block ids; one row per sequence that runs.
        block_size: tokens per block.
        rows: [S] int64, the row of each sequence of the step.
        context_lens: [S] int64, as SequenceSpan.context_len; 0 pads.
        query_starts: [S + 1] int64, where the queries of each sequence begin in the packed tokens, and where the last ends.
    """

    block_tables: Tensor
    block_size: int
    rows: Tensor
    context_lens: Tensor
    query_starts: Tensor


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """What attention needs beside q, k and v; the same for every layer of a group.

    Attributes:
        spans: the sequences of the step, in packed order.
        slot_mapping: [T] int64, where the new keys and values go; None without a cache.
        paged: the same sequences for kernels that read block tables; None without a cache.
    """

    spans: tuple[SequenceSpan, ...]
    slot_mapping: Tensor | None
    paged: PagedTables | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What the layers of a step share: make(), at the first call with this key."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made


@dataclass(frozen=True, slots=True)
class Batch:
    """The packed tokens of one step.

    Attributes:
        input_ids, positions: [T] int64 on the model's device.
        attention: who sees what, for each group of layers that shares block tables; one group without a cache.
        is_padded: whether the last rows may be no tokens.  Such a row sees nothing, and what comes of it is not wanted.
    """

    input_ids: Tensor
    positions: Tensor
    attention: tuple[AttentionMetadata, ...]
    is_padded: bool = False

    def is_token(self) -> Tensor | None:
        """[T] bool, which rows of a step of single tokens are no padding; None when all are tokens."""
        paged = self.attention[0].paged
        return paged.context_lens > 0 if self.is_padded and paged is not None else None


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
    return Batch(input_ids, positions, (AttentionMetadata(tuple(spans), None),))
