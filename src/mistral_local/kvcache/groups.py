"""Which layers share a block table: those that look equally far back."""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_GROUPS = 8
"""With more block tables per sequence than this, books would cost more than the memory is worth."""


@dataclass(frozen=True, slots=True)
class KVGroups:
    """Layers by block table.  A block holds the tokens of one group, so every group has equally many layers.

    Attributes:
        windows: of each group, how many keys a query sees; None means all.
        of_layer: for each layer its group, and its place among the layers of that group.
    """

    windows: tuple[int | None, ...]
    of_layer: tuple[tuple[int, int], ...]

    @property
    def layers_per_group(self) -> int:
        """Most layers of a group."""
        return 1 + max(place for _, place in self.of_layer)

    def part(self, layers: range) -> KVGroups:
        """The same groups for some of the layers only, each at the next free place of its group."""
        num_placed = [0] * len(self.windows)
        of_layer = []
        for group, _ in self.of_layer[layers.start : layers.stop]:
            of_layer.append((group, num_placed[group]))
            num_placed[group] += 1
        return KVGroups(self.windows, tuple(of_layer))


def group_layers(windows: list[int | None], max_context: int) -> KVGroups:
    """Divide layers into groups of equal windows and equal size, as few as possible.

    Args:
        windows: of each layer.
        max_context: most tokens of a sequence; a window that is no shorter sees everything.

    The windows [None, 4, 4, 4, None, 4, 4, 4] make four groups of two layers, one of which keeps everything.  All layers
    are one group, which keeps what the longest window sees, if there is one window only or if it would take too many.
    """
    seen = [None if window is None or window >= max_context else window for window in windows]
    layers_of: dict[int | None, list[int]] = {}
    for layer, window in enumerate(seen):
        layers_of.setdefault(window, []).append(layer)
    size = math.gcd(*map(len, layers_of.values()))
    if len(seen) // size > MAX_GROUPS:
        longest = None if None in layers_of else max(window for window in seen if window is not None)
        return KVGroups((longest,), tuple((0, layer) for layer in range(len(seen))))
    group_windows: list[int | None] = []
    of_layer = [(0, 0)] * len(seen)
    for window, layers in layers_of.items():
        for place, layer in enumerate(layers):
            of_layer[layer] = (len(group_windows) + place // size, place % size)
        group_windows += [window] * (len(layers) // size)
    return KVGroups(tuple(group_windows), tuple(of_layer))
