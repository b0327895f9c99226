"""Where a rank stands: which stage of the pipeline, and which part of it."""

from __future__ import annotations

from dataclasses import dataclass


def share(num_units: int, size: int, index: int) -> range:
    """The units of part `index` of `size` parts, as even as can be; with fewer units than parts, neighbours share one.

    >>> [share(8, 4, index) for index in range(4)]
    [range(0, 2), range(2, 4), range(4, 6), range(6, 8)]
    >>> [share(2, 4, index) for index in range(4)]
    [range(0, 1), range(0, 1), range(1, 2), range(1, 2)]
    """
    begin = index * num_units // size
    return range(begin, max(begin + 1, (index + 1) * num_units // size))


@dataclass(frozen=True, slots=True)
class Place:
    """One rank among all; the ranks of a stage follow one another.

    Six ranks in three stages:  rank   0 1   2 3   4 5
                                stage   0     1     2
                                tp_rank 0 1   0 1   0 1
    """

    rank: int = 0
    world_size: int = 1
    num_stages: int = 1

    @property
    def tp_size(self) -> int:
        """Ranks of a stage, which compute each of its layers together."""
        return self.world_size // self.num_stages

    @property
    def tp_rank(self) -> int:
        return self.rank % self.tp_size

    @property
    def stage(self) -> int:
        return self.rank // self.tp_size

    @property
    def is_first_stage(self) -> bool:
        return self.stage == 0

    @property
    def is_last_stage(self) -> bool:
        return self.stage == self.num_stages - 1

    @property
    def sampler(self) -> int:
        """The rank that chooses tokens: the first of the last stage."""
        return self.world_size - self.tp_size

    def layers(self, n_layers: int) -> range:
        """The layers of this stage."""
        return share(n_layers, self.num_stages, self.stage)

    def part(self, num_units: int) -> range:
        """What this rank holds of something that its stage divides."""
        return share(num_units, self.tp_size, self.tp_rank)
