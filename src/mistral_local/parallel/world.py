"""All ranks of a model, as one of them sees them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from mistral_local.errors import CheckpointError, MistralLocalError, RankLostError, UsageError
from mistral_local.memory import is_out_of_memory
from mistral_local.parallel.group import Group
from mistral_local.parallel.launch import TOLD, Launch
from mistral_local.parallel.line import Connection, Exchange, Failure, Goodbye, OnLoss, call, encode
from mistral_local.parallel.place import Place

SAME_EVERYWHERE = (CheckpointError, UsageError)

GRACE_S = 1
"""For the news of a rank's end to arrive, where its consequence came first."""

LAST_WORDS_S = 5
"""For what rank 0 has still to say and to put in order when another rank is lost."""


@dataclass(eq=False)
class World:
    """Where this rank stands and how it reaches the others; alone by default.

    Attributes:
        tp: the ranks of its stage.
        lines: on rank 0 to every follower, on a follower to rank 0.
        ends_with_driver: whether this process is nothing but a follower, so that it must not outlive rank 0.
        lost: why another rank cannot go on, once one cannot.
        on_loss: on rank 0, called then, by another thread; whoever owns the process sets it, and says the cause.  If the
            process has not ended LAST_WORDS_S later, it is ended: its main thread may hang in a collective.
    """

    place: Place = field(default_factory=Place)
    tp: Group = field(default_factory=lambda: Group([0], 0))
    lines: dict[int, Connection] = field(default_factory=dict)
    ends_with_driver: bool = False
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

    def tell_all(self, message: Any, *, but: Mapping[int, Any] | None = None) -> None:
        """Send a message of rank 0 to every follower; some may get another one.

        Raises:
            RankLostError: if any has ended.
        """
        encoded = encode(message)
        with self._naming_first_cause():
            for rank, line in self.lines.items():
                if but is not None and rank in but:
                    line.send(but[rank])
                else:
                    line.send_bytes(encoded)

    def receive_from(self, rank: int) -> Any:
        """Wait for the next message of a rank.

        Raises:
            RankLostError: if any has ended.
        """
        with self._naming_first_cause():
            message = self.lines[rank].receive()
            if isinstance(message, Goodbye):
                raise RankLostError(f"rank {rank} has left")
        return message

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
        """Let the other ranks know the reason if what is done here fails; it is raised all the same.

        What is wrong with flags or a folder is so on every rank, and each finds it by itself.
        """
        try:
            yield
        except SAME_EVERYWHERE:
            self.leave(Goodbye())
            raise
        except Exception as error:
            if _is_consequence(error):
                time.sleep(GRACE_S)  # whoever knows better ends this process meanwhile
            self.leave(Failure(self._cause(error)))
            if self.is_follower:
                error.add_note(TOLD)
                time.sleep(GRACE_S)  # torchrun ends rank 0 when this process has ended; it should have spoken by then
            raise

    @contextlib.contextmanager
    def failing_together(self) -> Iterator[None]:
        """The same for rank 0 in the middle of a step: the others hang in it, and so this process must end as well.

        Raises:
            RankLostError: instead of an error that another rank's end has caused.
        """
        try:
            yield
        except RankLostError:
            raise
        except Exception as error:
            if _is_consequence(error):
                time.sleep(GRACE_S)
            if self.lost is not None:
                raise RankLostError(self.lost) from error
            threading.Thread(target=self._lose, args=(self._cause(error),), daemon=True).start()
            raise

    @contextlib.contextmanager
    def _naming_first_cause(self) -> Iterator[None]:
        """The first rank that failed is named, not the next whose absence is felt."""
        try:
            yield
        except RankLostError as error:
            raise RankLostError(self.lost or str(error)) from error

    def leave(self, last: Goodbye | Failure) -> None:
        """Say a last word to whoever can hear it."""
        _leave(self.lines, last)

    def _cause(self, error: Exception) -> str:
        first_line = (str(error).splitlines() or [""])[0]
        is_ours = isinstance(error, MistralLocalError) or (isinstance(error, RuntimeError) and is_out_of_memory(error))
        return f"rank {self.place.rank}: {first_line if is_ours else f'{type(error).__name__}: {first_line}'}"

    def _end_if_left(self) -> None:
        """End this process if it hangs in a collective that rank 0 has left; called by the thread that saw it leave."""
        if self.ends_with_driver:
            time.sleep(LAST_WORDS_S)
            os._exit(1)

    def _lose(self, cause: str) -> None:
        """End this process because a rank cannot go on; called by a thread that has nothing else to do."""
        if self.lost is not None:
            return
        self.lost = cause
        if self.is_follower:
            # The main thread may hang in a collective for ever.
            if self.place.rank == 1 and cause.startswith("rank 0"):  # of others rank 0 speaks
                print(f"Error: {cause}", file=sys.stderr, flush=True)
            os._exit(1)
        if self.on_loss is None:
            print(f"Error: {cause}", file=sys.stderr, flush=True)
        else:
            self.on_loss(cause)
        self.leave(Failure(cause))
        time.sleep(LAST_WORDS_S)
        os._exit(1)


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """A method that does not keep its world; it is called no more when that is gone."""
    reference = weakref.WeakMethod(method)

    def call_if_there(*arguments: Any) -> None:
        found = reference()
        if found is not None:
            found(*arguments)

    return call_if_there


def _leave(lines: dict[int, Connection], last: Goodbye | Failure | None = None) -> None:
    for line in lines.values():
        line.close(last or Goodbye())


def _is_consequence(error: Exception) -> bool:
    """Whether a collective failed, which is no cause: another rank is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def join_world(place: Place, launch: Launch, device: torch.device) -> World:
    """Meet the other ranks; every rank calls it.

    Torch's process group is made at the first call.  What is on a GPU is exchanged by NCCL, all else by gloo.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        _init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", launch.num_restarts)
    world = World(place)
    for first in range(0, place.world_size, place.tp_size):
        ranks = list(range(first, first + place.tp_size))
        process_group = dist.new_group(ranks) if place.tp_size > 1 else None  # every rank takes part in making each
        if place.rank in ranks:
            world.tp = Group(ranks, place.rank, process_group)
    world.lines = _open_lines(world, launch)
    weakref.finalize(world, _leave, world.lines)  # with the last model on it, or at exit
    return world


def _init_process_group(backend: str, num_restarts: int) -> None:
    """As torch does it, but what the ranks before a restart have left in torchrun's store is not found."""
    store, rank, world_size = next(iter(rendezvous("env://")))
    store = dist.PrefixStore(f"mistral_local/{num_restarts}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)


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
        return exchange.accept(world.size - 1, _weakly(world._lose))
    assert box[0] is not None
    return {0: call(launch.driver_host, box[0], launch.rank, _weakly(world._lose), _weakly(world._end_if_left))}
