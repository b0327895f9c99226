"""Time a model through its engine."""

import resource
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch

from mistral_local.bench.ceilings import Ceilings, now
from mistral_local.bench.floors import decode_floor_s, prefill_floor_s
from mistral_local.bench.stopwatch import NO_LIMIT, Stopwatch, TimeLimit
from mistral_local.config import KVDtype, QuantFormat
from mistral_local.engine.follower import serve_to_the_end
from mistral_local.kvcache.storage import storage_dtype
from mistral_local.model.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Speed:
    """A rate, and what share it is of the best that this machine could do.

    Attributes:
        tokens_per_s: the median of `runs`.
        runs: tokens per second of each run.
    """

    tokens_per_s: float
    share_of_floor: float
    runs: list[float]

    @classmethod
    def of(cls, num_tokens: int, seconds: list[float], floor_s: float) -> Self:
        """So many tokens in so many seconds, where `floor_s` would be the least."""
        middle = median(seconds)
        return cls(num_tokens / middle, floor_s / middle, [num_tokens / each for each in seconds])


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


def measure_prefill(
    model: Transformer,
    ceilings: Ceilings,
    *,
    prompt_tokens: int,
    repeats: int,
    limit: TimeLimit = NO_LIMIT,
    kv_dtype: KVDtype = "auto",
) -> Speed:
    """Prompt tokens per second of one sequence, to its first new token."""
    stopwatch = Stopwatch(model, batch_size=1, prompt_tokens=prompt_tokens, new_tokens=1, kv_dtype=kv_dtype)
    seconds = [prefill_s for prefill_s, _ in stopwatch.runs(repeats, limit)]
    floor_s = prefill_floor_s(model.args, ceilings, num_tokens=prompt_tokens, itemsize=model.dtype.itemsize)
    return Speed.of(prompt_tokens, seconds, floor_s)


def measure_decode(
    model: Transformer,
    ceilings: Ceilings,
    *,
    batch_size: int,
    prompt_tokens: int,
    new_tokens: int,
    repeats: int,
    kv_dtype: KVDtype = "auto",
) -> Speed:
    """New tokens per second of the whole batch, after its first."""
    stopwatch = Stopwatch(
        model, batch_size=batch_size, prompt_tokens=prompt_tokens, new_tokens=new_tokens, kv_dtype=kv_dtype
    )
    return decode_speed(stopwatch, ceilings, repeats=repeats)


def decode_speed(stopwatch: Stopwatch, ceilings: Ceilings, *, repeats: int, limit: TimeLimit = NO_LIMIT) -> Speed:
    """The same of a stopwatch's sequences; NoTimeError as in its runs()."""
    model, batch_size, new_tokens = stopwatch.model, stopwatch.batch_size, stopwatch.new_tokens
    seconds = [decode_s / (new_tokens - 1) for _, decode_s in stopwatch.runs(repeats, limit)]
    floor_s = decode_floor_s(
        model.args,
        ceilings,
        batch_size=batch_size,
        context=stopwatch.prompt_tokens + new_tokens / 2,
        itemsize=model.dtype.itemsize,
        matrix_itemsize=model.matrix_itemsize,
        kv_dtype=storage_dtype(stopwatch.kv_dtype, model.dtype),
    )
    return Speed.of(batch_size, seconds, floor_s)


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
