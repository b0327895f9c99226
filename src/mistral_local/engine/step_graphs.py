"""Steps that only decode, recorded once for each size of the batch and queued by a single call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from torch import Tensor

from mistral_local.attention.batch import Batch
from mistral_local.config import EngineConfig
from mistral_local.engine.step_plan import StepPlan
from mistral_local.kernels.graph import GraphRecorder, reasons_against_graphs
from mistral_local.kvcache.storage import KVCache, storage_dtype
from mistral_local.model.transformer import Transformer

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Rows of the graphs; a step takes the next larger one, and what is left over is padding.  Larger batches are worth no graph:
their kernels run longer than it takes to queue them."""

logger = logging.getLogger(__name__)


class StepGraphs:
    """The graphs of one model on one cache, from the embedding to the logits.

    A size is run without a graph the first time, which compiles its kernels; it is recorded the second time.  What a graph
    depends on beside the numbers in its tensors are the places of weights, cache and batch: weights that are replaced
    drop all graphs.

    Args:
        sizes: rows of the graphs, rising.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._recorder = GraphRecorder()
        self._graphs: dict[int, Callable[[], Tensor]] = {}
        self._have_run: set[int] = set()
        self._weights_version = 0
        self._may_record = True

    def num_rows(self, plan: StepPlan) -> int | None:
        """How many rows the graph of a step has, padding included; None if it must run without one."""
        wants_only_tokens = all(
            part.num_tokens == 1 and part.num_sampled == 1 and not part.scored and part.pooling is None
            for part in plan.parts
        )
        if not wants_only_tokens:
            return None
        return next((size for size in self._sizes if size >= len(plan.parts)), None)

    def logits(self, model: Transformer, cache: KVCache, batch: Batch) -> Tensor:
        """Run a step.

        Args:
            batch: single tokens, padded to num_rows(), in tensors that lie where they lay at the last step of this size.

        Returns:
            [num_rows, vocab] fp32, which the next step overwrites; of the padding, anything.
        """
        size = len(batch.input_ids)
        if model.known_weights_version != self._weights_version:
            self._weights_version = model.known_weights_version
            # A new recorder: what libraries keep of a pool bars it from being used again after its last graph has gone.
            self._graphs, self._have_run, self._recorder = {}, set(), GraphRecorder()

        def run() -> Tensor:
            return model.logits(model.hidden(batch, cache))

        if size in self._have_run and size not in self._graphs and self._may_record:
            self._record(size, run)
        self._have_run.add(size)
        return self._graphs.get(size, run)()

    def _record(self, size: int, run: Callable[[], Tensor]) -> None:
        try:
            self._graphs[size] = self._recorder.record(run)
        except RuntimeError as error:
            self._may_record = False
            logger.warning("No graph for steps of %d sequences, nor any further: %s", size, str(error).splitlines()[0])


def sizes_of_graphs(model: Transformer, config: EngineConfig) -> list[int]:
    """Rows of the graphs that are worth recording; none where none can be."""
    if reasons_against_step_graphs(model, config):
        return []
    largest = min(config.max_num_seqs, config.max_num_batched_tokens, SIZES[-1])
    sizes = [size for size in SIZES if size < largest] + [largest]
    return [size for size in sizes if not model.waits_for_host(size)]


def reasons_against_step_graphs(model: Transformer, config: EngineConfig) -> list[str]:
    """Why steps are queued kernel by kernel; empty when they can be recorded."""
    reasons = reasons_against_graphs(model.device)
    if not config.graphs:
        reasons.append("they are turned off")
    backend = model.attention_backend(storage_dtype(config.kv_dtype, model.dtype))
    if not backend.reads_block_tables:
        reasons.append(f"{backend.name} attention is told by the host where keys lie")
    if model.world.size > 1:
        reasons.append("collectives of several ranks are not recorded")
    return reasons
