"""What all layers of a step share, worked out once."""

from collections.abc import Callable
from typing import Generic, TypeVar

from mistral_local.attention.batch import AttentionMetadata

T = TypeVar("T")


class PerStep(Generic[T]):
    """Remembers what was made for each window of the current step, and forgets it with the step."""

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._step: AttentionMetadata | None = None
        self._made: dict[int | None, T] = {}

    def get(self, metadata: AttentionMetadata, window: int | None, *more: object) -> T:
        """What belongs to the layers of one window: make(metadata, window, *more), of the first such call in a step."""
        if self._step is not metadata:
            self._step, self._made = metadata, {}
        if window not in self._made:
            self._made[window] = self._make(metadata, window, *more)
        return self._made[window]
