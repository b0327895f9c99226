"""What is measured of a shape, by names that a person can type."""

import re
from dataclasses import dataclass
from typing import Literal

from mistral_local.errors import UsageError

Kind = Literal["start", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure.

    Attributes:
        batch_size: sequences that decode together.
        context: prompt tokens of each.
    """

    kind: Kind
    batch_size: int = 1
    context: int = 0

    @property
    def name(self) -> str:
        """start, prefill:2048 or decode:8x1024."""
        shown = f"{self.batch_size}x{self.context}" if self.kind == "decode" else str(self.context)
        return self.kind if self.kind == "start" else f"{self.kind}:{shown}"


GRID: dict[str, list[Cell]] = {
    "start": [Cell("start")],
    "prefill": [Cell("prefill", context=2048), Cell("prefill", context=8192)],
    "decode": [
        *(Cell("decode", batch_size, 1024) for batch_size in (1, 8, 32, 64)),
        *(Cell("decode", batch_size, 8192) for batch_size in (1, 8)),
    ],
}
"""What a kind alone stands for."""


def parse_cells(text: str) -> list[Cell]:
    """Read a list such as start,prefill,decode:8x1024.

    Raises:
        UsageError: if a part is none.
    """
    return [cell for part in text.split(",") for cell in _parse(part.strip())]


def _parse(text: str) -> list[Cell]:
    if text in GRID:
        return GRID[text]
    if found := re.fullmatch(r"prefill:([1-9]\d{0,6})", text):
        return [Cell("prefill", context=int(found[1]))]
    if found := re.fullmatch(r"decode:([1-9]\d{0,4})x([1-9]\d{0,6})", text):
        return [Cell("decode", int(found[1]), int(found[2]))]
    raise UsageError(f"--cells: expected start, prefill, decode, prefill:2048 or decode:8x1024, got {text!r}")
