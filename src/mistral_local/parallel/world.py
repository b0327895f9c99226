"""All ranks of a model, as one of them sees them."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mistral_local.errors import MistralLocalError, UsageError
from mistral_local.memory import is_out_of_memory
from mistral_local.parallel.group import Group
from mistral_local.parallel.launch import Launch
from mistral_local.parallel.line import Connection, Exchange, Failure, Goodbye, OnLoss, call, encode
from mistral_local.parallel.place import Place


@dataclass(eq=False)
class World:
    """Where this rank stands and how it reaches the others; alone by default.

    Attributes:
        tp: the ranks of its stage.
        lines: on rank 0 to every follower, on a follower to rank 0.
        lost: why another rank cannot go on, once one cannot.
        on_loss: on rank 0, called then, by another thread; whoever owns the process sets it.
    """

    place: Place = field(default_factory=Place)
    tp: Group = field(default_factory=lambda: Group([0], 0))
    lines: dict[int, Connection] = field(default_factory=dict)
    lost: str | None = None
    on_loss: OnLoss | None = None
    _sends: deque[tuple[Any, Tensor]] = field(default_factory=deque)

    @property
    def size(self) -> int:
        return self.place.world_size

    @property
    def is_follower(self) -> bool:
        """Whether rank 0 says what this one computes."""
        return self.place.rank > 0

    def tell_all(self, message: Any) -> None:
        """Send a message of rank 0 to every follower."""
        encoded = encode(message)
        for line in self.lines.values():
            line.send_bytes(encoded)

    def send_on(self, x: Tensor) -> None:
        """Send hidden states to the rank of the next stage that stands where this one does; does not wait for it."""
        self._sends.append((dist.isend(x, self.place.rank + self.place.tp_size), x))
        while len(self._sends) > 2 * self.place.num_stages:  # long received, or nothing would come back any more
            self._sends.popleft()[0].wait()

    def receive_from_before(self, x: Tensor) -> Tensor:
        """Fill x with the hidden states that the stage before sends."""
        dist.recv(x, self.place.rank - self.place.tp_size)
        return x

    def broadcast_from_last_stage(self, x: Tensor) -> Tensor:
        """Fill x on every rank with that of the last stage."""
        if self.place.num_stages > 1:
            dist.broadcast(x, self.place.sampler)
        return x

    @contextlib.contextmanager
    def telling_failures(self) -> Iterator[None]:
        """Let the other ranks know the reason if what is done here fails; it is raised all the same."""
        try:
            yield
        except Exception as error:
            self.leave(Failure(self._cause(error)))
            raise

    def leave(self, last: Goodbye | Failure) -> None:
        """Say a last word to whoever can hear it."""
        for line in self.lines.values():
            line.close(last)

    def _cause(self, error: Exception) -> str:
        if isinstance(error, MistralLocalError) or (isinstance(error, RuntimeError) and is_out_of_memory(error)):
            return f"rank {self.place.rank}: {str(error).splitlines()[0]}"
        return f"rank {self.place.rank}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

    def _on_loss(self, cause: str) -> None:
        """Note that another rank is gone; called by the thread that saw it."""
        if self.lost is not None:
            return
        self.lost = cause
        if self.is_follower:
            # Rank 0 is gone or says that another is.  The main thread may hang in a collective for ever.
            if self.place.rank == 1 and cause.startswith("rank 0"):  # otherwise rank 0 says it
                print(f"Error: {cause}", file=sys.stderr, flush=True)
            os._exit(1)
        for line in self.lines.values():
            line.close(Failure(cause))
        if self.on_loss is not None:
            self.on_loss(cause)


def join_world(place: Place, launch: Launch, device: torch.device) -> World:
    """Meet the other ranks; every rank calls it.

    Torch's process group is made at the first call.  What is on a GPU is exchanged by NCCL, all else by gloo.
    """
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    world = World(place)
    for first in range(0, place.world_size, place.tp_size):
        ranks = list(range(first, first + place.tp_size))
        process_group = dist.new_group(ranks) if place.tp_size > 1 else None  # every rank takes part in making each
        if place.rank in ranks:
            world.tp = Group(ranks, place.rank, process_group)
    world.lines = _open_lines(world, launch)
    atexit.register(world.leave, Goodbye())
    return world


def local_device(launch: Launch, device: torch.device | str | None) -> torch.device | str | None:
    """The device of this rank: LOCAL_RANK picks the GPU.

    Raises:
        UsageError: if one GPU is asked for by number, or there are fewer GPUs than ranks.
    """
    if launch.world_size == 1:
        return device
    wanted = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device is None else torch.device(device)
    if wanted.type != "cuda":
        return wanted
    if wanted.index is not None and launch.local_world_size > 1:
        raise UsageError(f"device {wanted}: each of the {launch.local_world_size} ranks of a machine takes its own GPU")
    if launch.local_world_size > torch.cuda.device_count():
        raise UsageError(
            f"torchrun started {launch.local_world_size} ranks on a machine with {torch.cuda.device_count()} GPUs; "
            "--nproc-per-node must not be more, or --device cpu"
        )
    return torch.device("cuda", launch.local_rank)


def _open_lines(world: World, launch: Launch) -> dict[int, Connection]:
    exchange = None if world.is_follower else Exchange(is_on_one_machine=launch.is_on_one_machine)
    box = [None if exchange is None else exchange.address]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    if exchange is not None:
        return exchange.accept(world.size - 1, world._on_loss)
    assert box[0] is not None
    return {0: call(launch.driver_host, box[0], launch.rank, world._on_loss)}
