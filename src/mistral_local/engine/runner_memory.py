"""What a model runner leaves to the next one on the same cache."""

from __future__ import annotations

from dataclasses import dataclass

from mistral_local.config import EngineConfig
from mistral_local.engine.batch_tensors import BatchTensors
from mistral_local.engine.step_graphs import StepGraphs, sizes_of_graphs
from mistral_local.kvcache.storage import KVCache
from mistral_local.model.transformer import Transformer


@dataclass(frozen=True, slots=True)
class RunnerMemory:
    """The tensors of a step, and the graphs that were recorded with them."""

    tensors: BatchTensors
    graphs: StepGraphs

    @classmethod
    def allocate(cls, model: Transformer, cache: KVCache, config: EngineConfig) -> RunnerMemory:
        """For runners of this model, cache and configuration."""
        sizes = sizes_of_graphs(model, config)
        tensors = BatchTensors(
            cache,
            max_tokens=config.max_num_batched_tokens,
            max_rows=config.max_num_seqs,
            max_context=config.max_context,
            most_under_way=max(2, model.world.place.num_stages),
            needs_key_slots=not model.attention_backend(cache.dtype).reads_block_tables,
            keeps_place=bool(sizes),
        )
        return cls(tensors, StepGraphs(sizes))
