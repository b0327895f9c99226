"""What every rank but the first does: what rank 0 says, until it ends."""

from __future__ import annotations

import pickle
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import torch

from mistral_local.config import EngineConfig
from mistral_local.engine.kv_memory import KVMemory, plan_blocks
from mistral_local.engine.rank_messages import (
    CallEnded,
    OpenEngine,
    PlanCache,
    RankMemory,
    RunStep,
    StepAnswer,
    TellMemory,
)
from mistral_local.engine.sharded_runner import ShardedRunner
from mistral_local.errors import MistralLocalError, RankLostError
from mistral_local.model.transformer import Transformer
from mistral_local.parallel.line import Goodbye

T = TypeVar("T")


class Follower:
    """Serves rank 0 with its part of a model; the model keeps the cache, as on rank 0, for the next call."""

    def __init__(self, model: Transformer) -> None:
        self._model, self._world = model, model.world
        self._runner: ShardedRunner | None = None

    def serve(self) -> CallEnded | Goodbye:
        """Do what rank 0 says until its call, or itself, ends.

        Raises:
            RankLostError: if rank 0 ends in another way.
        """
        with _left_to_rank_0(signal.SIGINT, signal.SIGTERM), self._world.telling_failures():
            while True:
                message = self._world.lines[0].receive()
                if isinstance(message, CallEnded | Goodbye):
                    return message
                answer = self._obey(message)
                if answer is not None:
                    self._world.lines[0].send(answer)

    @property
    def _kv(self) -> KVMemory | None:
        kept = self._model.kept_kv
        return kept if isinstance(kept, KVMemory) else None

    def _obey(self, message: Any) -> Any:
        match message:
            case RunStep():
                return self._run(message)
            case PlanCache(config, num_kept):
                self._runner = None
                if not num_kept:
                    self._model.kept_kv = None
                return num_kept or plan_blocks(self._model, config)
            case OpenEngine(config, num_blocks):
                self._runner = ShardedRunner(self._model, self._memory(config, num_blocks), config)
            case TellMemory():
                return memory_of(self._model)
            case _:
                raise TypeError(f"rank 0 sent {type(message).__name__}")
        return None

    def _memory(self, config: EngineConfig, num_blocks: int) -> KVMemory:
        """That of the engine before, if it is of this size and kind, or a new one."""
        kept = self._kv
        if kept is not None and kept.pool.num_blocks == num_blocks and kept.suits(self._model, config):
            return kept
        self._model.kept_kv = kept = None  # it goes before the new one comes
        kv = KVMemory.allocate(self._model, config, num_blocks=num_blocks)
        self._model.kept_kv = kv
        return kv

    def _run(self, step: RunStep) -> StepAnswer | None:
        assert self._runner is not None, "an engine is opened first"
        pending = self._runner.begin_part(step.plan, step.choosing, step.rows, step.masks)
        if self._world.place.rank != self._world.place.sampler:
            return None
        result = pending.result()
        on_host = [None if pooled is None else pooled.cpu() for pooled in result.pooled]
        return StepAnswer(step.number, replace(result, pooled=on_host))


def serve_to_the_end(model: Transformer) -> NoReturn:
    """Serve rank 0 until it ends, and end this process.

    Raises:
        SystemExit: always.
        RankLostError: if rank 0 ends in no good order.
    """
    model.world.ends_with_driver = True
    Follower(model).serve()
    raise SystemExit(0)


def run_on_all_ranks(model: Transformer, call: Callable[[], T]) -> T:
    """Make a call on rank 0 while the other ranks serve it, and return its result, or raise its error, on all.

    Raises:
        RankLostError: if a rank ends before the call.
    """
    world = model.world
    if world.size == 1:
        return call()
    if world.is_follower:
        ended = Follower(model).serve()
        if isinstance(ended, Goodbye):
            raise RankLostError("rank 0 has ended before this call")
        if ended.error is not None:
            raise ended.error
        result: T = ended.result
        return result
    try:
        result = call()
    except RankLostError:
        raise
    except Exception as error:
        world.tell_all(CallEnded(None, _sendable(error)))
        raise
    world.tell_all(CallEnded(result))
    return result


def _sendable(error: Exception) -> Exception:
    """The error, or where it cannot be pickled, or not rebuilt from that, one with its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - anything that an exception's own pickling raises
        return MistralLocalError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _left_to_rank_0(*signals: signal.Signals) -> Iterator[None]:
    """Ignore signals, which torchrun sends to all ranks: rank 0 may still have something to finish."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def memory_of(model: Transformer) -> RankMemory:
    """What this rank holds, and the most that it ever had in use; on a CPU that counts mapped weights."""
    if model.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(model.device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return RankMemory(weights, peak)
