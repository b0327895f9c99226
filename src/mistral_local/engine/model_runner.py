"""Run a planned step: tensors, model, and the choice of the next tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import accumulate, islice

import torch
from torch import Tensor

from mistral_local.config import EngineConfig
from mistral_local.engine.kv_memory import KVMemory
from mistral_local.engine.step_plan import PlannedPart, SampledToken, StepPlan, StepResult
from mistral_local.kernels.transfer import HostCopy, current, to_device
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.grammar.masks import MaskComputer
from mistral_local.sampling.params import Pooling
from mistral_local.sampling.row import SamplingRow
from mistral_local.sampling.sampler import Sampled, sample, token_logprobs

# Prompt logprobs are computed from slices of logits of at most this many numbers (64 MiB in fp32).
MAX_LOGITS_PER_SLICE = 1 << 24

# Weights of fewer bytes are run on one CPU thread: several would wait for each other longer than they work.
ONE_THREAD_BELOW_BYTES = 64_000_000

# Weights are packed when so many steps have only decoded, without compiled kernels or in batches too large for them:
# short answers are over before packing would pay.
NUM_STEPS_BEFORE_PACKING = 4


class PendingStep:
    """A step that has been given to the model; reading what came of it waits for a GPU.

    Args:
        sampled: what was chosen after each token that is sampled after; None if there is none.
        prompt_logprobs, pooled: as in StepResult.
        device: where it is computed.
    """

    def __init__(
        self,
        plan: StepPlan,
        sampled: Sampled | None,
        prompt_logprobs: list[list[float]],
        pooled: list[Tensor | None],
        device: torch.device,
    ) -> None:
        self._plan, self._sampled = plan, sampled
        self._prompt_logprobs, self._pooled = prompt_logprobs, pooled
        parts = [] if sampled is None else [sampled.token_ids, sampled.logprobs, sampled.top_ids, sampled.top_logprobs]
        self._on_host = HostCopy(parts, device)

    @property
    def token_ids(self) -> Tensor:
        """[S] int64 on the model's device, all tokens that were chosen."""
        assert self._sampled is not None
        return self._sampled.token_ids

    def result(self) -> StepResult:
        """What came of the step."""
        chosen = iter(_sampled_tokens(*self._on_host.wait()))
        sampled = [list(islice(chosen, part.num_sampled)) for part in self._plan.parts]
        return StepResult(sampled, self._prompt_logprobs, self._pooled)


class ModelRunner:
    """Owns the model, its KV cache and the tensors of a step; knows no sequence but by its row."""

    def __init__(self, model: Transformer, kv: KVMemory, config: EngineConfig) -> None:
        self.model, self.cache = model, kv.cache
        memory = kv.runner_memory(model, config)
        self._tensors, self._graphs = memory.tensors, memory.graphs
        self._masks = MaskComputer(model.args.vocab_size, model.device)
        self._num_decode_steps = 0
        self._uses_one_thread = runs_on_one_thread(model)
        self._last: PendingStep | None = None

    @torch.inference_mode()
    def begin(self, plan: StepPlan, rows: list[SamplingRow]) -> PendingStep:
        """Compute one step; on a GPU it is only queued.

        Args:
            rows: what decides each token that is chosen, in the order of the plan; as many as its parts sample.
        """
        with current(self.model.device), one_thread() if self._uses_one_thread else nullcontext():
            self._last = self._begin(plan, rows)
        return self._last

    def _begin(self, plan: StepPlan, rows: list[SamplingRow]) -> PendingStep:
        self._pack_weights_in_time(plan)
        num_rows = self._graphs.num_rows(plan)
        batch = self._tensors.batch(plan, num_rows)
        self._fill_in_awaited(plan, batch.input_ids)
        if num_rows is None:
            return self._finish(plan, self.model.hidden(batch, self.cache), rows)
        logits = self._graphs.logits(self.model, self.cache, batch)[: len(plan.parts)]
        sampled = self._choose(logits, rows)
        return PendingStep(plan, sampled, [[] for _ in plan.parts], [None for _ in plan.parts], logits.device)

    def _finish(self, plan: StepPlan, hidden: Tensor, rows: list[SamplingRow]) -> PendingStep:
        """[T, dim] hidden states of a step -> what is wanted of them."""
        ends = list(accumulate(part.num_tokens for part in plan.parts))
        prompt_logprobs: list[list[float]] = []
        pooled: list[Tensor | None] = []
        for part, end in zip(plan.parts, ends, strict=True):
            its_hidden = hidden[end - part.num_tokens : end]
            prompt_logprobs.append(self._score(part, its_hidden) if part.scored else [])
            pooled.append(None if part.pooling is None else _pool(part.pooling, its_hidden))
        wanted = [row for part, end in zip(plan.parts, ends, strict=True) for row in range(end - part.num_sampled, end)]
        sampled = self._sample(hidden[to_device(wanted, hidden.device)], rows) if wanted else None
        return PendingStep(plan, sampled, prompt_logprobs, pooled, hidden.device)

    def _fill_in_awaited(self, plan: StepPlan, input_ids: Tensor) -> None:
        """Put the tokens that the step before has chosen where they are awaited, without reading them."""
        ends = accumulate(part.num_tokens for part in plan.parts)
        places = [
            (end - 1, part.awaited_row)
            for part, end in zip(plan.parts, ends, strict=True)
            if part.awaited_row is not None
        ]
        if places:
            assert self._last is not None
            at, chosen = to_device(places, input_ids.device).T
            # Where none could be chosen any token will do: its sequence ends when that is read.
            input_ids[at] = self._last.token_ids[chosen].clamp_(min=0)

    def _pack_weights_in_time(self, plan: StepPlan) -> None:
        if self.model.has_compiled_kernels(len(plan.parts)):
            return
        self._num_decode_steps += plan.only_decodes
        if self._num_decode_steps == NUM_STEPS_BEFORE_PACKING:
            self._num_decode_steps += 1
            self.model.pack_weights()

    def _sample(self, hidden: Tensor, rows: list[SamplingRow]) -> Sampled:
        """[S, dim] hidden states -> what follows each."""
        return self._choose(self.model.logits(hidden), rows)

    def _choose(self, logits: Tensor, rows: list[SamplingRow]) -> Sampled:
        """[S, vocab] logits -> what follows each."""
        # A GPU has still to compute the logits: the masks are made meanwhile.
        masks = self._masks.compute([row.grammar for row in rows])
        return sample(logits, rows, masks)

    def _score(self, part: PlannedPart, hidden: Tensor) -> list[float]:
        """[num_tokens, dim] hidden states of a part -> the logprobs of the tokens that it scores."""
        first = part.scored_from - part.start
        rows_per_slice = max(1, MAX_LOGITS_PER_SLICE // self.model.args.vocab_size)
        logprobs: list[float] = []
        for start in range(0, len(part.scored), rows_per_slice):
            following = torch.tensor(part.scored[start : start + rows_per_slice], device=hidden.device)
            its_hidden = hidden[first + start : first + start + len(following)]
            logprobs += self._logprobs(its_hidden, following).tolist()
        return logprobs

    def _logprobs(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        """[S, dim] hidden states, [S] ids -> [S] fp32, the logprob of each id as the token that follows."""
        return token_logprobs(self.model.logits(hidden), token_ids)


def runs_on_one_thread(model: Transformer) -> bool:
    """Whether the steps of a model take one CPU thread whatever torch is set to."""
    nbytes = sum(parameter.nbytes for parameter in model.parameters())
    return model.device.type == "cpu" and nbytes < ONE_THREAD_BELOW_BYTES


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread, and as many as before afterwards."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _sampled_tokens(
    token_ids: Tensor | None = None,
    logprobs: Tensor | None = None,
    top_ids: Tensor | None = None,
    top_logprobs: Tensor | None = None,
) -> list[SampledToken]:
    """Tensors as in Sampled, on the host -> one object per token; no tensors, no tokens."""
    if token_ids is None:
        return []
    ids = token_ids.tolist()
    if logprobs is None:
        return [SampledToken(token) for token in ids]
    if top_ids is None or top_logprobs is None:
        return [SampledToken(token, logprob) for token, logprob in zip(ids, logprobs.tolist(), strict=True)]
    tops = [list(zip(*row, strict=True)) for row in zip(top_ids.tolist(), top_logprobs.tolist(), strict=True)]
    return [SampledToken(*choice) for choice in zip(ids, logprobs.tolist(), tops, strict=True)]


def _pool(pooling: Pooling, hidden: Tensor) -> Tensor:
    """[num_tokens, dim] hidden states of a part -> [dim] fp32, the last one or the sum."""
    return hidden[-1].float() if pooling == "last" else hidden.float().sum(0)
