"""How we run a checkpoint: frozen configuration of the engine."""

from dataclasses import dataclass

from mistral_local.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Limits of one engine.

    Attributes:
        max_num_seqs: most sequences that run at the same time; more wait.
        max_context: most tokens of one sequence, prompt and answer together.
        max_num_batched_tokens: token budget of one step; longer prompts are computed over several steps.
        max_prefill_chunk: most prompt tokens of one sequence per step; None leaves it to the budget.
        block_size: tokens per KV cache block.
        kv_memory_bytes: memory of the KV cache; None takes max_num_seqs * max_context, bounded by what is free.

    Raises:
        UsageError: if a limit is not positive.
    """

    max_num_seqs: int
    max_context: int
    max_num_batched_tokens: int = 2048
    max_prefill_chunk: int | None = None
    block_size: int = 16
    kv_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_context", "max_num_batched_tokens", "max_prefill_chunk", "block_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}: expected at least 1, got {value}")
