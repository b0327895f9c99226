"""Which requests an engine can serve at all."""

from __future__ import annotations

from mistral_local.config import EngineConfig
from mistral_local.engine.kv_memory import KVMemory, blocks_of_one
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import EmptyPromptError, OutOfMemoryError, PromptTooLongError, TokenIdError
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams


class Admission:
    """Makes sequences of prompts, and refuses those that could never end."""

    def __init__(self, model: Transformer, config: EngineConfig, kv: KVMemory) -> None:
        self._model, self._config, self._kv = model, config, kv

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds, all sequences together."""
        return self._kv.pool.num_blocks // len(self._kv.cache.groups.windows) * self._config.block_size

    @property
    def max_context(self) -> int:
        """Most tokens of one sequence, prompt and answer together."""
        wanted = self._config.max_context
        return wanted if self._fits(wanted) else min(wanted, self.kv_tokens)

    def sequence(self, prompt: list[int], params: SamplingParams) -> Sequence:
        """The sequence of a prompt.

        Raises:
            EmptyPromptError, TokenIdError: if the prompt cannot be computed.
            PromptTooLongError: if it leaves no room in the context for an answer of max_tokens.
            OutOfMemoryError: if prompt and answer can never fit into the KV cache.
        """
        self._check_prompt(prompt)
        params.check_ids(self._model.args.vocab_size)
        sequence = Sequence(list(prompt), len(prompt), params, self._model.weights_version().to_bytes(8, "little"))
        if sequence.max_len > self._config.max_context:
            raise PromptTooLongError(
                f"prompt and answer need {sequence.max_len} tokens, the context has {self._config.max_context}"
            )
        if not self._fits(sequence.max_len):
            raise OutOfMemoryError(
                f"prompt and answer need a KV cache of {sequence.max_len} tokens, there is memory for {self.kv_tokens}"
            )
        return sequence

    def _fits(self, num_tokens: int) -> bool:
        return blocks_of_one(self._model, self._config, num_tokens) <= self._kv.pool.num_blocks

    def _check_prompt(self, prompt: list[int]) -> None:
        if not prompt:
            raise EmptyPromptError("the prompt is empty: at least one token is needed")
        vocab_size = self._model.args.vocab_size
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            bad = next(token for token in prompt if not 0 <= token < vocab_size)
            raise TokenIdError(f"token id {bad} is outside the vocabulary of {vocab_size}")
        if len(prompt) >= self.max_context:
            raise PromptTooLongError(
                f"the prompt has {len(prompt)} tokens; a context of {self.max_context} leaves no room for an answer"
            )
