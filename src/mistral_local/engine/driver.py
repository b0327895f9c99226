"""Rank 0's runner: it tells the followers of each step and runs its own part."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TypeVar

from mistral_local.config import EngineConfig
from mistral_local.engine.kv_memory import KVMemory, plan_blocks
from mistral_local.engine.model_runner import PendingStep
from mistral_local.engine.rank_messages import OpenEngine, PlanCache, RankMemory, RunStep, StepAnswer, TellMemory
from mistral_local.engine.sharded_runner import ShardedRunner, choosing_of
from mistral_local.engine.step_plan import StepPlan, StepResult
from mistral_local.model.transformer import Transformer
from mistral_local.parallel.world import World
from mistral_local.sampling.grammar.masks import MaskComputer
from mistral_local.sampling.row import SamplingRow

T = TypeVar("T")


class RemoteStep:
    """A step whose tokens are chosen on another rank."""

    def __init__(self, world: World, number: int) -> None:
        self._world, self._number = world, number

    def result(self) -> StepResult:
        """Wait for what came of it; results of steps that were given up are passed over.

        Raises:
            RankLostError: if a rank has ended.
        """
        while True:
            answer = line_answer(self._world, self._world.place.sampler, StepAnswer)
            if answer.number == self._number:
                return answer.result


class DriverRunner:
    """Runs every step on all ranks."""

    def __init__(self, model: Transformer, kv: KVMemory, config: EngineConfig) -> None:
        self._world = model.world
        self._own = ShardedRunner(model, kv, config)
        self._masks = MaskComputer(model.args.vocab_size, model.device)
        self._numbers = count()

    def begin(self, plan: StepPlan, rows: list[SamplingRow]) -> PendingStep | RemoteStep:
        """Begin a step on all ranks; arguments as in ModelRunner.begin()."""
        world, masks = self._world, self._masks.compute([row.grammar for row in rows])
        step = RunStep(next(self._numbers), plan, choosing_of(rows))
        with world.failing_together():
            if world.place.sampler == 0:
                world.tell_all(step)
                return self._own.begin_part(plan, step.choosing, rows, masks)
            for_sampler = replace(step, rows=[_sendable(row) for row in rows], masks=masks)
            world.tell_all(step, but={world.place.sampler: for_sampler})
            self._own.begin_part(plan, step.choosing, [], None)
            return RemoteStep(world, step.number)


def open_driver(model: Transformer, config: EngineConfig, kept: KVMemory | None) -> tuple[KVMemory, DriverRunner]:
    """Make the cache of an engine, as large as the rank with the least memory allows, and its runner on every rank.

    Args:
        kept: memory of an earlier engine that suits this one.

    Raises:
        OutOfMemoryError: if rank 0 has no memory for it.
        RankLostError: if another rank has none.
    """
    world, num_kept = model.world, 0 if kept is None else kept.pool.num_blocks
    world.tell_all(PlanCache(config, num_kept))
    theirs = [line_answer(world, rank, int) for rank in world.lines]  # all of them, whatever comes of the own
    num_blocks = min(num_kept or plan_blocks(model, config), *theirs)
    world.tell_all(OpenEngine(config, num_blocks))
    kv = KVMemory.allocate(model, config, num_blocks=num_blocks) if kept is None else kept
    return kv, DriverRunner(model, kv, config)


def ask_memory(world: World) -> list[RankMemory]:
    """What each follower holds, in the order of the ranks."""
    world.tell_all(TellMemory())
    return [line_answer(world, rank, RankMemory) for rank in world.lines]


def line_answer(world: World, rank: int, kind: type[T]) -> T:
    """The next answer of a rank that is of this kind; of steps that were given up nothing is wanted any more."""
    while True:
        answer = world.receive_from(rank)
        if isinstance(answer, kind):
            return answer


def _sendable(row: SamplingRow) -> SamplingRow:
    """Without its grammar, which has become a mask."""
    return replace(row, grammar=None, params=replace(row.params, grammar=None))
