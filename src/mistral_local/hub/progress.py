"""What a download tells whoever started it."""

from typing import Protocol


class Progress(Protocol):
    """Receives how far a download is; all numbers are bytes."""

    def begin(self, phase: str, done: int, total: int | None) -> None:
        """A phase (`download`, `verify` or `unpack`) starts at `done` of `total`; None when nobody knows."""

    def advance(self, num_bytes: int) -> None:
        """So many more are done."""

    def end(self) -> None:
        """The phase is over, or was left."""

    def note(self, text: str) -> None:
        """Something that a person wants to know: a retry, a start from zero."""
