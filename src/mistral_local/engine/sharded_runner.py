"""A model runner whose model is one rank's part of a model."""

from __future__ import annotations

import torch
from torch import Tensor

from mistral_local.config import EngineConfig
from mistral_local.engine.kv_memory import KVMemory
from mistral_local.engine.model_runner import ModelRunner, PendingStep
from mistral_local.engine.rank_messages import Choosing
from mistral_local.engine.step_plan import StepPlan
from mistral_local.model.parallelize import ShardedOutput
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.grammar.masks import TokenMasks
from mistral_local.sampling.row import SamplingRow
from mistral_local.sampling.sampler import NOT_FINITE, Sampled, sample


class ShardedRunner(ModelRunner):
    """Runs this rank's part of a step.

    Every rank of the last stage takes part in choosing tokens; only the first of them knows what was chosen where whole
    rows of logits are needed.
    """

    def __init__(self, model: Transformer, kv: KVMemory, config: EngineConfig) -> None:
        super().__init__(model, kv, config)
        assert isinstance(model.output, ShardedOutput)
        self._output, self._world = model.output, model.world
        self._choosing = Choosing(is_argmax=True, wants_logprobs=False)
        self._given_masks: TokenMasks | None = None

    def begin_part(
        self, plan: StepPlan, choosing: Choosing, rows: list[SamplingRow], masks: TokenMasks | None
    ) -> PendingStep:
        """Compute this rank's part of a step.

        Args:
            rows, masks: as in begin(); needed by the sampling rank only.
        """
        self._choosing, self._given_masks = choosing, masks
        return self.begin(plan, rows)

    def _finish(self, plan: StepPlan, hidden: Tensor, rows: list[SamplingRow]) -> PendingStep:
        if self._world.place.is_last_stage:
            return super()._finish(plan, hidden, rows)
        return PendingStep(plan, None, [[] for _ in plan.parts], [None for _ in plan.parts], hidden.device)

    def _sample(self, hidden: Tensor, rows: list[SamplingRow]) -> Sampled:
        logits, vocabulary = self._output.own(hidden), self._output.vocabulary
        if self._choosing.is_argmax:
            best, token_ids = vocabulary.argmax(logits)
            logprobs = vocabulary.logprobs(logits, token_ids) if self._choosing.wants_logprobs else None
            return Sampled(torch.where(best.isfinite(), token_ids, NOT_FINITE), logprobs)
        whole = vocabulary.gather(logits)
        sampled = None if whole is None else sample(whole, rows, self._given_masks)
        token_ids = logits.new_empty(len(logits), dtype=torch.int64) if sampled is None else sampled.token_ids
        self._world.tp.broadcast(token_ids)  # the next step may begin with them
        return Sampled(token_ids) if sampled is None else sampled

    def _logprobs(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        return self._output.vocabulary.logprobs(self._output.own(hidden), token_ids)


def choosing_of(rows: list[SamplingRow]) -> Choosing:
    """How the tokens of these rows are chosen."""
    return Choosing(
        is_argmax=all(_takes_argmax(row) for row in rows),
        wants_logprobs=any(row.params.logprobs for row in rows),
    )


def _takes_argmax(row: SamplingRow) -> bool:
    params = row.params
    return not (
        params.temperature
        or params.has_penalties
        or params.logit_bias
        or params.allowed_token_ids is not None
        or params.top_logprobs
        or row.forbidden
        or row.grammar is not None
    )
