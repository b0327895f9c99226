"""Turn a scheduled step into tensors, run the model, and choose the next tokens."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice

import torch
from torch import Tensor

from mistral_local.attention.batch import AttentionMetadata, Batch, SequenceSpan, slots_of
from mistral_local.engine.scheduler import Scheduled
from mistral_local.engine.sequence import SampledToken
from mistral_local.kvcache.storage import KVCache
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.grammar.masks import MaskComputer
from mistral_local.sampling.sampler import sample, token_logprobs

# Prompt logprobs are computed from slices of logits of at most this many numbers (64 MiB in fp32).
MAX_LOGITS_PER_SLICE = 1 << 24

# Weights of fewer bytes are run on one CPU thread: several would wait for each other longer than they work.
ONE_THREAD_BELOW_BYTES = 64_000_000

# Weights are packed when so many steps have only decoded, without compiled kernels or in batches too large for them:
# short answers are over before packing would pay.
NUM_STEPS_BEFORE_PACKING = 4


class ModelRunner:
    """Owns the model and its KV cache."""

    def __init__(self, model: Transformer, cache: KVCache) -> None:
        self.model, self.cache = model, cache
        self._masks = MaskComputer(model.args.vocab_size, model.device)
        self._num_decode_steps = 0
        self._uses_one_thread = runs_on_one_thread(model)

    @torch.inference_mode()
    def run(self, step: list[Scheduled]) -> dict[int, list[SampledToken]]:
        """Compute one step.

        Returns:
            What is sampled after the last token of each part of `step` that reached the end of its sequence, and after
            each of its guesses as if it had come true; by index in `step`.
        """
        with one_thread() if self._uses_one_thread else nullcontext():
            return self._run(step)

    def _run(self, step: list[Scheduled]) -> dict[int, list[SampledToken]]:
        self._pack_weights_in_time(step)
        sampled = [index for index, part in enumerate(step) if part.is_sampled]
        hidden = self.model.hidden(self._batch(step), self.cache)
        ends = torch.tensor([part.num_tokens for part in step]).cumsum(0).tolist()
        for part, end in zip(step, ends, strict=True):
            if part.sequence.params.prompt_logprobs:
                self._score_prompt(part, hidden[end - part.num_tokens : end])
            if part.sequence.params.pooling is not None:
                _pool(part, hidden[end - part.num_tokens : end])
        if not sampled:
            return {}
        rows = [row for index in sampled for row in range(ends[index] - 1 - len(step[index].guesses), ends[index])]
        wanted = hidden[torch.tensor(rows, device=hidden.device)]
        choices = iter(self._sample([step[index] for index in sampled], wanted))
        return {index: list(islice(choices, 1 + len(step[index].guesses))) for index in sampled}

    def _pack_weights_in_time(self, step: list[Scheduled]) -> None:
        if self.model.has_compiled_kernels(len(step)):
            return
        self._num_decode_steps += all(part.num_tokens == 1 for part in step)
        if self._num_decode_steps == NUM_STEPS_BEFORE_PACKING:
            self._num_decode_steps += 1
            self.model.pack_weights()

    def _batch(self, step: list[Scheduled]) -> Batch:
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        spans: list[SequenceSpan] = []
        block_size, device = self.cache.block_size, self.model.device
        for part in step:
            table = part.sequence.block_table
            assert table is not None
            end = part.start + part.num_tokens
            key_slots = slots_of(table, 0, end, block_size)
            if isinstance(key_slots, Tensor):
                key_slots = key_slots.to(device)
            spans.append(SequenceSpan(len(ids), part.num_tokens, end, key_slots))
            ids += part.token_ids
            positions += range(part.start, end)
            slots += [table.blocks[p // block_size] * block_size + p % block_size for p in range(part.start, end)]
        packed = torch.tensor([ids, positions, slots]).to(device)
        return Batch(packed[0], packed[1], AttentionMetadata(tuple(spans), packed[2]))

    def _sample(self, parts: list[Scheduled], hidden: Tensor) -> list[SampledToken]:
        """[S, dim] hidden states of the last token and the guesses of each part -> what follows each."""
        rows = [part.sequence.sampling_row(ahead) for part in parts for ahead in range(1 + len(part.guesses))]
        logits = self.model.logits(hidden)
        # A GPU has still to compute the logits: the masks are made meanwhile.
        masks = self._masks.compute([part.sequence.grammar for part in parts for _ in range(1 + len(part.guesses))])
        sampled = sample(logits, rows, masks)
        ids = sampled.token_ids.tolist()
        if sampled.logprobs is None:
            return [SampledToken(token) for token in ids]
        logprobs = sampled.logprobs.tolist()
        if sampled.top_ids is None or sampled.top_logprobs is None:
            return [SampledToken(token, logprob) for token, logprob in zip(ids, logprobs, strict=True)]
        tops = [
            list(zip(*row, strict=True))
            for row in zip(sampled.top_ids.tolist(), sampled.top_logprobs.tolist(), strict=True)
        ]
        return [SampledToken(*choice) for choice in zip(ids, logprobs, tops, strict=True)]

    def _score_prompt(self, part: Scheduled, hidden: Tensor) -> None:
        """Append the logprobs of the prompt tokens that follow this part's tokens, if not yet known.

        Args:
            hidden: [num_tokens, dim], hidden states of the part.
        """
        sequence = part.sequence
        first = max(part.start, len(sequence.prompt_logprobs))  # row of token i scores token i + 1
        last = min(part.end, sequence.num_prompt_tokens - 1)
        rows_per_slice = max(1, MAX_LOGITS_PER_SLICE // self.model.args.vocab_size)
        for start in range(first, last, rows_per_slice):
            end = min(last, start + rows_per_slice)
            following = torch.tensor(sequence.tokens[start + 1 : end + 1], device=hidden.device)
            logits = self.model.logits(hidden[start - part.start : end - part.start])
            sequence.prompt_logprobs += token_logprobs(logits, following).tolist()


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


def _pool(part: Scheduled, hidden: Tensor) -> None:
    """Collect hidden states [num_tokens, dim] of a part of a prompt; the mean is a sum until the last part."""
    sequence = part.sequence
    if sequence.params.pooling == "last":
        sequence.pooled = hidden[-1].float()
        return
    total = hidden.float().sum(0)
    sequence.pooled = total if part.start == 0 or sequence.pooled is None else sequence.pooled + total
    if part.is_pooled:
        sequence.pooled = sequence.pooled / sequence.num_prompt_tokens
