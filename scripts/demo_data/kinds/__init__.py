"""The kinds of questions that a program answers."""

from scripts.demo_data.kinds import arithmetic, dates, lists, sequences, texts, units
from scripts.demo_data.kinds.base import Kind, Phrases, fill

KINDS: tuple[Kind, ...] = (
    *arithmetic.KINDS,
    *dates.KINDS,
    *sequences.KINDS,
    *lists.KINDS,
    *texts.KINDS,
    *units.KINDS,
)

__all__ = ["KINDS", "Kind", "Phrases", "fill"]
