"""What torchrun tells a process about itself; its environment variables are read here only.

RANK, WORLD_SIZE              this process among all, and how many there are
LOCAL_RANK, LOCAL_WORLD_SIZE  the same among those of this machine
MASTER_ADDR                   where rank 0 runs
TORCHELASTIC_RESTART_COUNT    how often all processes have been started again
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """How this process was started; alone, unless by torchrun."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    driver_host: str = "127.0.0.1"
    num_restarts: int = 0

    @property
    def is_follower(self) -> bool:
        """Whether another process decides what is computed, and talks to the user."""
        return self.rank > 0

    @property
    def speaks_for_machine(self) -> bool:
        """Whether it is the first rank of its machine, which says what is wrong with the files there."""
        return self.local_rank == 0

    @property
    def is_on_one_machine(self) -> bool:
        return self.local_world_size == self.world_size


TOLD = "told to rank 0"


def is_told(error: BaseException) -> bool:
    """Whether rank 0 has been told of it, and says so."""
    return TOLD in getattr(error, "__notes__", ())


def find_launch() -> Launch:
    """Read the environment; without torchrun, or with one process, it is Launch()."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = [os.environ.get(name, "") for name in names]
    if not all(value.isdecimal() for value in values) or int(values[1]) < 2:
        return Launch()
    rank, world_size, local_rank, local_world_size = map(int, values)
    host = "127.0.0.1" if world_size == local_world_size else os.environ.get("MASTER_ADDR", "127.0.0.1")
    num_restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Launch(
        rank, world_size, local_rank, local_world_size, host, int(num_restarts) if num_restarts.isdecimal() else 0
    )
