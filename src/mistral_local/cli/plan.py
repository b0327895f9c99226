"""mistral-local plan: the memory that a checkpoint takes, before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mistral_local.cli.console import Color, Console
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.config import KVDtype, parse_bytes
from mistral_local.errors import UsageError

if TYPE_CHECKING:
    from mistral_local.inspect.plan import MemoryPlan, Need

GPU_COUNTS = (1, 2, 4, 8)
MOST_GPUS = 64
HEADERS = ("GPUs", "layout", "weights", "KV cache", "step", "in all", "fits", "sequences")


def plan(
    model_path: str | None = None,
    *,
    gpus: int | None = None,
    gpu_memory: str = "80GB",
    context: int | None = None,
    batch: int = 1,
    dtype: str | None = None,
    kv_dtype: KVDtype = "auto",
    color: Color = "auto",
) -> None:
    """show the memory that a checkpoint takes on each GPU, from params.json and headers alone

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; params.json is enough; without it the bundled demo checkpoint
        gpus: number of GPUs; without it 1, 2, 4 and 8 are shown
        gpu_memory: memory of each GPU, such as 24GB
        context: tokens of each sequence, prompt and answer together; without it the context length of the checkpoint
        batch: sequences at the same time
        dtype: float32, bfloat16 or float16; without it as stored
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes
        color: when to use colours; auto means on a terminal, unless NO_COLOR is set

    Raises:
        UsageError, CheckpointError: if a flag cannot be, or the folder is no checkpoint.
    """
    console = Console(color)
    folder, gpu_bytes = find_model_folder(model_path), parse_bytes(gpu_memory)
    for name, value in (("gpus", gpus), ("context", context), ("batch", batch)):
        if value is not None and value < 1:
            raise UsageError(f"--{name}: expected at least 1, got {value}")
    if gpus is not None and gpus > MOST_GPUS:
        raise UsageError(f"--gpus: expected at most {MOST_GPUS}, got {gpus}")
    from mistral_local.args import TransformerArgs
    from mistral_local.demo.locate import demo_checkpoint
    from mistral_local.inspect.plan import MemoryPlan, Question, stored_dtype  # imports torch
    from mistral_local.tasks.loading import parse_dtype

    folder = folder or demo_checkpoint()
    args = TransformerArgs.from_folder(folder)
    stored, how_known = stored_dtype(folder, args)
    computed = parse_dtype(dtype) or stored
    question = Question(gpu_bytes, context or args.context_length, batch, kv_dtype)
    memory = MemoryPlan(args, question, computed)

    how_known = how_known if computed == stored else f"stored as {_name(stored)}"
    quantized = "" if args.quantization is None else f"{args.quantization.format} weights, "
    console.answer(f"{memory.num_parameters / 1e9:.2f}B parameters, {quantized}{_name(computed)} ({how_known})\n")
    stored_kv = "" if kv_dtype == "auto" else f", KV cache in {kv_dtype}"
    console.answer(f"context {question.context}, batch {batch}{stored_kv}, {gpu_bytes / 1e9:.0f} GB per GPU\n\n")
    for line in _table(memory, GPU_COUNTS if gpus is None else (gpus,)):
        console.answer(f"{line}\n")
    console.answer("\n")
    for line in _advice(memory):
        console.answer(f"{line}\n")
    console.note("weights and KV cache are exact; the step, CUDA (0.6 GB) and NCCL (0.6 GB) are estimates")


def _table(memory: MemoryPlan, gpu_counts: tuple[int, ...]) -> list[str]:
    """Per rank, one row for each layout; `sequences` is how many fit at the same time."""
    layouts = [need for num_gpus in gpu_counts for need in memory.layouts(num_gpus)]
    if not layouts:
        return [f"{gpu_counts[0]} GPUs cannot share this model: {memory.why_not(gpu_counts[0])}"]
    rows = [HEADERS, *(_row(memory, need) for need in layouts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _row(memory: MemoryPlan, need: Need) -> tuple[str, ...]:
    batch, most = memory.question.batch, need.most_sequences(memory.question.gpu_bytes)
    sizes = (need.weights, batch * need.kv_per_sequence, need.step, need.total(batch))
    shown = [f"{size / 1e9:.1f} GB" for size in sizes]
    return str(need.num_gpus), need.name, *shown, "yes" if most >= batch else "no", str(most)


def _advice(memory: MemoryPlan) -> list[str]:
    """For each way to store the weights, the fewest GPUs that hold what is asked."""
    from mistral_local.inspect.plan import NOT_DIVIDED, WEIGHT_BITS

    quantization = memory.args.quantization
    ways = {_name(memory.dtype): None, "bfloat16": 16.0, **WEIGHT_BITS}
    lines = []
    for name, bits in ways.items() if quantization is None else [(quantization.format, None)]:
        need = memory.smallest(bits, MOST_GPUS)
        if need is None and quantization is not None:
            lines.append(f"{name} weights: not on one GPU of this size; {NOT_DIVIDED}")
        elif need is None:
            lines.append(f"{name} weights: not on {MOST_GPUS} GPUs of this size")
        else:
            gpus = "1 GPU" if need.num_gpus == 1 else f"{need.num_gpus} GPUs ({need.name})"
            lines.append(f"{name} weights: {gpus}, {need.total(memory.question.batch) / 1e9:.1f} GB each")
    return lines


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
