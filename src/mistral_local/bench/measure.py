"""Time a model through its engine."""

import random
import resource
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mistral_local.bench.ceilings import Ceilings, now
from mistral_local.bench.floors import decode_floor_s, prefill_floor_s
from mistral_local.config import EngineConfig, QuantFormat
from mistral_local.engine.engine import Engine
from mistral_local.engine.follower import serve_to_the_end
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import SamplingParams

SMALLEST_ID = 5
"""Ids below are control tokens in most vocabularies."""


@dataclass(frozen=True, slots=True)
class Speed:
    """A rate and what share it is of the best that this machine could do."""

    tokens_per_s: float
    share_of_floor: float


@dataclass(frozen=True, slots=True)
class LoadTime:
    """Loading a folder, weights in the page cache.

    Attributes:
        first_token_s: from the folder to the first token of a one-token prompt.
        read_s: reading the weight files once, as `cat` does.
        forward_s: one step of the loaded model.
    """

    first_token_s: float
    read_s: float
    forward_s: float

    @property
    def ratio(self) -> float:
        """How many times longer than reading and one step."""
        return self.first_token_s / (self.read_s + self.forward_s)


class Stopwatch:
    """Runs prompts of random tokens, never the same twice, on one engine."""

    def __init__(self, model: Transformer, *, batch_size: int, prompt_tokens: int, new_tokens: int) -> None:
        self.model, self.batch_size = model, batch_size
        self.prompt_tokens, self.new_tokens = prompt_tokens, new_tokens
        self._random = random.Random(0)
        context = prompt_tokens + new_tokens
        self._engine = Engine(
            model,
            EngineConfig(
                max_num_seqs=batch_size,
                max_context=context + 1,
                max_num_batched_tokens=batch_size
                * prompt_tokens,  # all prompts in one step, so that all decode together
            ),
        )

    def run(self) -> tuple[float, float]:
        """Seconds until every sequence has its first token, and from then to the last."""
        params = SamplingParams(max_tokens=self.new_tokens)
        vocab = range(SMALLEST_ID, self.model.args.vocab_size)
        prompts = [self._random.choices(vocab, k=self.prompt_tokens) for _ in range(self.batch_size)]
        start = now(self.model.device)
        sequences = [self._engine.add(prompt, params) for prompt in prompts]
        while not all(sequence.num_new_tokens for sequence in sequences):
            self._engine.step()
        first = now(self.model.device)
        self._engine.run(sequences)
        return first - start, now(self.model.device) - first


def measure_prefill(model: Transformer, ceilings: Ceilings, *, prompt_tokens: int, repeats: int) -> Speed:
    """Prompt tokens per second of one sequence, to its first new token; the median of `repeats`."""
    stopwatch = Stopwatch(model, batch_size=1, prompt_tokens=prompt_tokens, new_tokens=1)
    stopwatch.run()
    seconds = median(stopwatch.run()[0] for _ in range(repeats))
    floor = prefill_floor_s(model.args, ceilings, num_tokens=prompt_tokens, itemsize=model.dtype.itemsize)
    return Speed(prompt_tokens / seconds, floor / seconds)


def measure_decode(
    model: Transformer, ceilings: Ceilings, *, batch_size: int, prompt_tokens: int, new_tokens: int, repeats: int
) -> Speed:
    """New tokens per second of the whole batch, after its first; the median of `repeats`."""
    stopwatch = Stopwatch(model, batch_size=batch_size, prompt_tokens=prompt_tokens, new_tokens=new_tokens)
    stopwatch.run()
    step_s = median(stopwatch.run()[1] for _ in range(repeats)) / (new_tokens - 1)
    floor = decode_floor_s(
        model.args,
        ceilings,
        batch_size=batch_size,
        context=prompt_tokens + new_tokens / 2,
        itemsize=model.dtype.itemsize,
        matrix_itemsize=model.matrix_itemsize,
    )
    return Speed(batch_size / step_s, floor / step_s)


def load_model(folder: Path, *, num_pipeline_ranks: int, **how: Any) -> Transformer:
    """Load a model to measure.

    Raises:
        SystemExit: on every rank of torchrun but the first, which is served until it ends.
    """
    model = Transformer.from_folder(folder, num_pipeline_ranks=num_pipeline_ranks, **how)
    if model.world.is_follower:
        serve_to_the_end(model)
    return model


def measure_loading(
    folder: Path,
    *,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    quantize: QuantFormat | None = None,
    num_pipeline_ranks: int = 1,
) -> tuple[Transformer, LoadTime]:
    """Load a folder twice, so that its pages are cached, and time the second; errors as in load_model()."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.pth")]
    Transformer.from_folder(
        folder, num_pipeline_ranks=num_pipeline_ranks, device=device, dtype=dtype, quantize=quantize
    )
    start = now(torch.device("cpu"))
    model = load_model(folder, num_pipeline_ranks=num_pipeline_ranks, device=device, dtype=dtype, quantize=quantize)
    stopwatch = Stopwatch(model, batch_size=1, prompt_tokens=1, new_tokens=1)
    stopwatch.run()
    loaded = now(model.device)
    _read(files)
    read = now(model.device)
    return model, LoadTime(loaded - start, read - loaded, median(stopwatch.run()[0] for _ in range(3)))


def peak_rss_bytes() -> int:
    """Largest resident size of this process so far, mapped weights included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(files: list[Path]) -> None:
    buffer = bytearray(1 << 17)
    for file in files:
        with open(file, "rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass
