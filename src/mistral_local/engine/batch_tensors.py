"""The tensors of a step: allocated once, written in place."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mistral_local.attention.batch import AttentionMetadata, Batch, PagedTables, SequenceSpan
from mistral_local.engine.step_plan import PlannedPart, StepPlan
from mistral_local.kvcache.storage import KVCache


class BatchTensors:
    """Turns plans into batches.

    A batch's tensors are views of memory that is written again by the next call on a GPU, in the order of its stream, and
    by the call `most_under_way` later on a CPU.  On a GPU those of two batches of equal sizes lie at the same place.

    Args:
        cache: where keys and values go; it names the device.
        max_tokens: most tokens of a step.
        max_rows: most sequences that run at the same time.
        max_context: most tokens of a sequence.
        most_under_way: steps that may be prepared before a GPU has copied the numbers of the first.
        needs_key_slots: whether attention asks for the slots of every sequence, instead of reading block tables.
        keeps_place: whether a CPU does as a GPU does.
    """

    def __init__(
        self,
        cache: KVCache,
        *,
        max_tokens: int,
        max_rows: int,
        max_context: int,
        most_under_way: int = 2,
        needs_key_slots: bool = True,
        keeps_place: bool = False,
    ) -> None:
        self._needs_key_slots = needs_key_slots
        self._block_size, self._device, self._scratch_slot = cache.block_size, cache.device, cache.scratch_slot
        self._num_groups = len(cache.groups.windows)
        on_host, pin = self._device.type == "cpu", self._device.type == "cuda"
        shape = (self._num_groups, max_rows, -(-max_context // self._block_size))
        tables = torch.zeros(shape, dtype=torch.int32, pin_memory=pin)
        self._tables, self._pinned_tables = tables.numpy(), tables
        self._device_tables = tables if on_host else tables.to(self._device)
        self._copies_tables = not on_host
        self._is_contiguous = np.ones(shape[:2], np.bool_)
        self._max_tokens, self._max_rows = max_tokens, max_rows
        num_numbers = (2 + self._num_groups) * max_tokens + 3 * max_rows + 1
        self._stages = [torch.zeros(num_numbers, dtype=torch.int64, pin_memory=pin) for _ in range(most_under_way)]
        has_copy = keeps_place or not on_host
        self._on_device = torch.zeros(num_numbers, dtype=torch.int64, device=self._device) if has_copy else None
        self._num_calls = 0

    def batch(self, plan: StepPlan, num_rows: int | None = None) -> Batch:
        """The tensors of a step.

        Args:
            num_rows: of a step of single tokens, so many rows are made; those that are no tokens stand at the end.
        """
        for part in plan.parts:
            self._note_new_blocks(part)
        num_tokens, num_seqs = (plan.num_tokens, len(plan.parts)) if num_rows is None else (num_rows, num_rows)
        sizes = [num_tokens] * (2 + self._num_groups) + [num_seqs, num_seqs, num_seqs + 1]
        stage = self._stages[self._num_calls % len(self._stages)]
        self._num_calls += 1
        self._write(plan, np.split(stage.numpy()[: sum(sizes)], np.cumsum(sizes[:-1])))
        if self._on_device is not None:
            self._on_device[: sum(sizes)].copy_(stage[: sum(sizes)], non_blocking=True)
            stage = self._on_device
        ids, positions, *slots, rows, context_lens, starts = torch.split(stage[: sum(sizes)], sizes)
        attention = tuple(
            AttentionMetadata(
                self._spans(plan, group),
                slots[group],
                PagedTables(self._device_tables[group], self._block_size, rows, context_lens, starts),
            )
            for group in range(self._num_groups)
        )
        return Batch(ids, positions, attention, is_padded=num_rows is not None)

    def _note_new_blocks(self, part: PlannedPart) -> None:
        for group, news in enumerate(part.new_blocks):
            if not news.blocks:
                continue
            table, end = self._tables[group, part.row], news.start + len(news.blocks)
            table[news.start : end] = news.blocks
            linked = table[max(0, news.start - 1) : end]  # the new blocks, and the one that they follow
            was_contiguous = news.start == 0 or bool(self._is_contiguous[group, part.row])
            self._is_contiguous[group, part.row] = was_contiguous and bool((np.diff(linked) == 1).all())
            if self._copies_tables:
                new = self._pinned_tables[group, part.row, news.start : end]
                self._device_tables[group, part.row, news.start : end].copy_(new, non_blocking=True)

    def _write(self, plan: StepPlan, sections: list[NDArray[np.int64]]) -> None:
        """Fill the sections of a stage: ids, positions, slots of each group, rows, context lengths, query starts."""
        ids, positions, *slots, rows, context_lens, starts = sections
        starts[0] = 0
        for index, part in enumerate(plan.parts):
            first, last = int(starts[index]), int(starts[index]) + part.num_tokens
            ids[first:last] = part.token_ids
            positions[first:last] = np.arange(part.start, part.end)
            rows[index], context_lens[index], starts[index + 1] = part.row, part.end, last
        num_seqs, num_tokens = len(plan.parts), plan.num_tokens
        row_of_token = np.repeat(rows[:num_seqs], np.diff(starts[: num_seqs + 1]))
        block, offset = np.divmod(positions[:num_tokens], self._block_size)
        for group, slot_mapping in enumerate(slots):
            blocks = self._tables[group][row_of_token, block].astype(np.int64)
            slot_mapping[:num_tokens] = blocks * self._block_size + offset
            slot_mapping[num_tokens:] = self._scratch_slot
        for padding in (ids[num_tokens:], positions[num_tokens:], rows[num_seqs:], context_lens[num_seqs:]):
            padding[:] = 0
        starts[num_seqs + 1 :] = np.arange(num_tokens + 1, len(ids) + 1)

    def _spans(self, plan: StepPlan, group: int) -> tuple[SequenceSpan, ...]:
        spans, start = [], 0
        for part in plan.parts:
            spans.append(SequenceSpan(start, part.num_tokens, part.end, self._key_slots(group, part)))
            start += part.num_tokens
        return tuple(spans)

    def _key_slots(self, group: int, part: PlannedPart) -> slice | Tensor | None:
        """With block_size 4, blocks [7, 8] hold 6 tokens in slice(28, 34), blocks [7, 3] in [28, 29, 30, 31, 12, 13]."""
        if not self._needs_key_slots:
            return None
        blocks = self._tables[group, part.row, : -(-part.end // self._block_size)]
        if self._is_contiguous[group, part.row]:
            first = int(blocks[0]) * self._block_size
            return slice(first, first + part.end)
        slots = blocks.astype(np.int64)[:, None] * self._block_size + np.arange(self._block_size)
        return torch.from_numpy(slots.reshape(-1)[: part.end]).to(self._device)
