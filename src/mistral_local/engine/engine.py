"""The engine: add sequences, step, read their new tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

from mistral_local.config import EngineConfig
from mistral_local.engine.admission import Admission
from mistral_local.engine.driver import DriverRunner, RemoteStep, open_driver
from mistral_local.engine.kv_memory import KVMemory
from mistral_local.engine.model_runner import ModelRunner, PendingStep
from mistral_local.engine.ngram import NgramProposer
from mistral_local.engine.planner import Planner
from mistral_local.engine.scheduler import Scheduled, Scheduler
from mistral_local.engine.sequence import Sequence
from mistral_local.engine.stats import EngineStats, StatsRecorder
from mistral_local.engine.step_plan import SampledToken, StepPlan
from mistral_local.errors import EngineBusyError, MistralLocalError, OutOfMemoryError, UsageError
from mistral_local.kvcache.block_pool import BlockPool
from mistral_local.memory import is_out_of_memory
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams
from mistral_local.sampling.sampler import NONE_ALLOWED


@dataclass(frozen=True, slots=True)
class StepUnderWay:
    """A step that the model has been given."""

    parts: list[Scheduled]
    plan: StepPlan
    pending: PendingStep | RemoteStep


class Engine:
    """Runs sequences of token ids on one model; knows no text.

    Not thread-safe: one thread adds, steps and aborts.
    """

    def __init__(self, model: Transformer, config: EngineConfig, kv: KVMemory | None = None) -> None:
        """Make an engine.

        Args:
            kv: memory of an earlier engine that has no work any more, which suits this one; None allocates.

        Raises:
            OutOfMemoryError: if there is no memory for keys and values.
            UsageError: if `config` asks for determinism that this model on this device cannot give.
        """
        if config.deterministic:
            config = _small_steps(config, model)
        self.config = config
        self.model = model
        num_stages = model.world.place.num_stages
        self._runner: ModelRunner | DriverRunner
        if model.world.size == 1:
            self.kv = KVMemory.allocate(model, config) if kv is None else kv
            self._runner = ModelRunner(model, self.kv, config)
        else:
            self.kv, self._runner = open_driver(model, config, kv)
        self._admission = Admission(model, config, self.kv)
        self.scheduler = Scheduler(config, self.kv.books(config), num_stages)
        self._planner = Planner()
        self._runs_ahead = model.device.type == "cuda" if config.overlap is None else config.overlap
        self._most_under_way = num_stages if num_stages > 1 else 1 + self._runs_ahead
        self._under_way: deque[StepUnderWay] = deque()
        self._recorder = StatsRecorder()

    @property
    def pool(self) -> BlockPool:
        """The books of the KV cache."""
        return self.kv.pool

    @property
    def has_work(self) -> bool:
        """Whether any sequence waits or runs."""
        return self.scheduler.has_work

    @property
    def num_waiting(self) -> int:
        """Sequences that have not been let in yet, or were preempted."""
        return len(self.scheduler.waiting)

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds, all sequences together."""
        return self._admission.kv_tokens

    @property
    def kv_bytes(self) -> int:
        """Memory of the KV cache."""
        return self.kv.cache.num_bytes

    @property
    def max_context(self) -> int:
        """Most tokens of one sequence, prompt and answer together."""
        return self._admission.max_context

    def add(self, prompt: list[int], params: SamplingParams) -> Sequence:
        """Queue a prompt; the sequence that is returned fills up while the engine steps.

        Raises:
            EmptyPromptError, TokenIdError: if the prompt cannot be computed.
            PromptTooLongError: if it leaves no room in the context for an answer of max_tokens.
            OutOfMemoryError: if prompt and answer can never fit into the KV cache.
            EngineBusyError: if as many sequences as may are waiting already.
        """
        if self.config.max_waiting is not None and self.num_waiting >= self.config.max_waiting:
            raise EngineBusyError(f"{self.num_waiting} requests wait already; try again later")
        sequence = self._admission.sequence(prompt, params)
        if self.config.max_guesses:
            sequence.proposer = NgramProposer()
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[Sequence]:
        """Run one step of the model; on a GPU the next one is queued before its tokens are read, and in a pipeline as many
        are under way as there are stages.

        Returns:
            The sequences that got a token or ended.

        Raises:
            OutOfMemoryError: if the device has no memory for the step; nothing was computed.
        """
        try:
            while self._may_begin() and self._begin():
                pass
        except OutOfMemoryError:
            if not self._under_way:
                raise  # else there may be memory when what is under way has ended
        if not self._under_way:
            self._release_finished()
            return []
        try:
            return self._end(self._under_way[0])
        except BaseException:
            self._forget_under_way()
            raise

    def abort(self, sequence: Sequence) -> None:
        """End a sequence now and give its blocks back; nothing happens if it has ended."""
        if not sequence.is_finished:
            sequence.finish("aborted")
            self._release_finished()

    def fail_running(self, error: str) -> None:
        """End every running sequence by an error; those that wait go on."""
        self._forget_under_way()
        for sequence in self.scheduler.running:
            sequence.finish("error", error)
        self._release_finished()

    def stats(self) -> EngineStats:
        """What the engine does now and has done so far."""
        return self._recorder.snapshot(
            num_running=len(self.scheduler.running),
            num_waiting=self.num_waiting,
            kv_use=1 - self.pool.num_free / self.pool.num_blocks,
        )

    def stream(self, sequence: Sequence) -> Iterator[int]:
        """Yield the new tokens of a sequence while the engine steps; others that run advance as well.

        Closing the iterator before its end aborts the sequence.
        """
        num_read = 0
        try:
            while True:
                while num_read < sequence.num_new_tokens:
                    num_read += 1
                    yield sequence.tokens[sequence.num_prompt_tokens + num_read - 1]
                if sequence.is_finished:
                    return
                self.step()
        finally:
            self.abort(sequence)

    def run(self, sequences: list[Sequence]) -> None:
        """Step until all of these have ended; if that fails, they are aborted."""
        try:
            while not all(sequence.is_finished for sequence in sequences):
                self.step()
        finally:
            for sequence in sequences:
                self.abort(sequence)

    def generate(self, prompts: list[list[int]], params: list[SamplingParams]) -> list[Sequence]:
        """Add prompts, step until all have ended, and return their sequences in order; nothing is left behind.

        Raises:
            As add() and step(), and MistralLocalError if a sequence ended by an error.
        """
        sequences: list[Sequence] = []
        try:
            for prompt, its_params in zip(prompts, params, strict=True):
                sequences.append(self.add(prompt, its_params))
            self.run(sequences)
        finally:
            for sequence in sequences:
                self.abort(sequence)
        for row, sequence in enumerate(sequences):
            if sequence.error is not None:
                raise MistralLocalError(f"prompt {row}: {sequence.error}")
        return sequences

    def _may_begin(self) -> bool:
        """Whether the next step can be planned before the tokens of those under way are known."""
        if not self._under_way:
            return True
        if len(self._under_way) >= self._most_under_way:
            return False
        # In a pipeline, the scheduler leaves out whoever waits for a token.
        in_pipeline = self.scheduler.num_stages > 1
        return in_pipeline or not any(part.sequence.needs_each_token for part in self._under_way[-1].parts)

    def _begin(self) -> bool:
        """Schedule a step and give it to the model; False if there is nothing to compute."""
        parts = self.scheduler.schedule(is_ahead=bool(self._under_way))
        if not parts:
            return False
        rows = [
            part.sequence.sampling_row(part.sequence.num_awaited + ahead)
            for part in parts
            if part.is_sampled
            for ahead in range(1 + len(part.guesses))
        ]
        plan = self._planner.plan(parts, self._under_way[-1].plan if self._under_way else None)
        try:
            pending = self._runner.begin(plan, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            num_tokens = sum(part.num_tokens for part in parts)
            raise OutOfMemoryError(
                f"no memory on {self.model.device} for a step of {num_tokens} tokens; a smaller batch or chunk needs less"
            ) from error
        self._planner.note_told(parts)
        self.scheduler.note_begun(parts)
        self._under_way.append(StepUnderWay(parts, plan, pending))
        return True

    def _forget_under_way(self) -> None:
        for step in self._under_way:
            self.scheduler.forget(step.parts)
        self._under_way.clear()

    def _end(self, step: StepUnderWay) -> list[Sequence]:
        """Wait for the oldest step and give its results to its sequences; what ended meanwhile gets nothing."""
        result = step.pending.result()
        progressed, num_new_tokens, num_right_guesses = [], 0, 0
        for index, part in enumerate(step.parts):
            sequence = part.sequence
            if sequence.is_finished:
                continue
            sequence.prompt_logprobs += result.prompt_logprobs[index]
            pooled = result.pooled[index]
            if pooled is not None:
                sequence.pool(pooled, is_first=part.start == 0, is_last=part.is_pooled)
            if part.is_sampled:
                num_taken = self._take(part, result.sampled[index])
                num_new_tokens += num_taken
                num_right_guesses += max(0, num_taken - 1)
            if part.reaches_end:
                progressed.append(sequence)
        self.scheduler.note_computed(step.parts)
        self._under_way.popleft()
        self._recorder.step(
            num_prompt_tokens=sum(part.num_prompt_tokens for part in step.parts),
            num_new_tokens=num_new_tokens,
            num_guessed_tokens=sum(len(part.guesses) for part in step.parts),
            num_right_guesses=num_right_guesses,
        )
        self._release_finished()
        return progressed

    def _take(self, part: Scheduled, choices: list[SampledToken]) -> int:
        """Append what was sampled, up to the first guess that did not come true; returns how many tokens.

        Each is sampled from the model's own distribution after the tokens before it, so that guesses change nothing but
        the number of steps.
        """
        sequence, num_taken = part.sequence, 0
        for choice, guess in zip_longest(choices, part.guesses):
            if choice.token < 0:
                sequence.finish("error", _why_no_token(sequence, choice))
                break
            is_first = sequence.first_token_at is None
            sequence.append(choice)
            num_taken += 1
            if is_first:
                self._recorder.first_token(sequence)
            if sequence.is_finished or choice.token != guess:
                break
        if part.guesses and sequence.proposer is not None:
            sequence.proposer.learn(len(part.guesses), num_taken - 1)
        return num_taken

    def _release_finished(self) -> None:
        self._recorder.finished(self.scheduler.release_finished())


def _small_steps(config: EngineConfig, model: Transformer) -> EngineConfig:
    """The same configuration with steps so small that a token is computed in one way whatever stands beside it."""
    reasons = model.reasons_against_batch_invariance()
    if config.kv_dtype == "fp8":
        reasons.append("compiled attention reads no keys and values in fp8")
    if reasons:
        raise UsageError(f"deterministic mode cannot be had: {reasons[0]}")
    return replace(config, max_num_batched_tokens=min(config.max_num_batched_tokens, model.MAX_BATCH_INVARIANT_TOKENS))


def _why_no_token(sequence: Sequence, choice: SampledToken) -> str:
    if choice.token != NONE_ALLOWED:
        return "the model's logits are not finite; the weights may be damaged"
    if sequence.grammar is not None and sequence.grammar.error is not None:
        return f"grammar: {sequence.grammar.error}"
    return "grammar, allowed_token_ids, bad_token_ids and min_tokens together allow no token"
