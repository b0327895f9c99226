"""Collectives among the ranks that share each layer of a stage."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Group:
    """Ranks that compute together; with one rank every call returns what it was given.

    Args:
        ranks: of the whole world, in the order of their parts.
        process_group: torch's; None with one rank.
    """

    def __init__(self, ranks: list[int], rank: int, process_group: dist.ProcessGroup | None = None) -> None:
        assert (process_group is None) == (len(ranks) == 1)
        self.ranks, self.size, self.rank = ranks, len(ranks), ranks.index(rank)
        self._process_group = process_group

    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(x, group=self._process_group)
        return x

    def all_gather(self, x: Tensor) -> list[Tensor]:
        """What each rank gave, all of one shape."""
        if self.size == 1:
            return [x]
        gathered = [torch.empty_like(x) for _ in self.ranks]
        dist.all_gather(gathered, x.contiguous(), group=self._process_group)
        return gathered

    def broadcast(self, x: Tensor) -> Tensor:
        """Fill x on every rank with that of the first."""
        if self.size > 1:
            dist.broadcast(x, self.ranks[0], group=self._process_group)
        return x

    def gather(self, x: Tensor) -> list[Tensor] | None:
        """What each rank gave, all of one shape, on the first rank; None on the others."""
        if self.size == 1:
            return [x]
        gathered = [torch.empty_like(x) for _ in self.ranks] if self.rank == 0 else None
        dist.gather(x.contiguous(), gathered, dst=self.ranks[0], group=self._process_group)
        return gathered
