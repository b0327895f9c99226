"""Make plain plans of scheduled steps."""

from __future__ import annotations

from itertools import accumulate

from mistral_local.engine.scheduler import Scheduled
from mistral_local.engine.step_plan import AWAITED, NewBlocks, PlannedPart, StepPlan
from mistral_local.kvcache.books import SequenceBlocks


class Planner:
    """Remembers what the runner knows, so that a plan says only what is new."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[SequenceBlocks, int]] = {}

    def plan(self, step: list[Scheduled], under_way: StepPlan | None) -> StepPlan:
        """Describe a step that is about to run, after one that may still choose its tokens."""
        before = [] if under_way is None else under_way.parts
        ends = accumulate(part.num_sampled for part in before)
        last_rows = {part.row: end - 1 for part, end in zip(before, ends, strict=True) if part.num_sampled}
        return StepPlan([self._part(part, last_rows) for part in step])

    def note_told(self, step: list[Scheduled]) -> None:
        """The runner has been given the plan of this step."""
        for part in step:
            self._told[part.blocks.row] = part.blocks, part.blocks.num_blocks

    def _part(self, part: Scheduled, last_rows: dict[int, int]) -> PlannedPart:
        sequence = part.sequence
        scored_from, scored = part.scored()
        return PlannedPart(
            row=part.blocks.row,
            start=part.start,
            token_ids=part.token_ids,
            new_blocks=self._news(part.blocks),
            num_sampled=1 + len(part.guesses) if part.is_sampled else 0,
            scored_from=scored_from,
            scored=scored,
            pooling=sequence.params.pooling,
            awaited_row=last_rows[part.blocks.row] if part.token_ids[-1] == AWAITED else None,
        )

    def _news(self, blocks: SequenceBlocks) -> tuple[NewBlocks, ...]:
        known, num_told = self._told.get(blocks.row, (None, 0))
        num_told = num_told if known is blocks else 0
        return tuple(NewBlocks(num_told, table.blocks[num_told:]) for table in blocks.tables)
