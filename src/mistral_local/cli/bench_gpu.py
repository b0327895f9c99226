"""mistral-bench gpu: what this GPU makes of the real shapes, with no checkpoint."""

from pathlib import Path
from typing import Any, Literal

from mistral_local.cli.bench_output import check_output, save
from mistral_local.cli.console import Console
from mistral_local.config import KVDtype, QuantFormat
from mistral_local.errors import MistralLocalError, UsageError
from mistral_local.parallel.launch import find_launch


def gpu(
    *,
    shapes: str = "7b",
    cells: str = "start,decode,prefill",
    quantize: QuantFormat | None = None,
    kv_dtype: KVDtype = "auto",
    new_tokens: int = 64,
    repeats: int = 3,
    time_limit: float = 480.0,
    profile: bool = False,
    device: Literal["cuda", "cpu"] = "cuda",
    output: str | None = None,
) -> None:
    """measure random weights of the real shapes on a GPU, each figure as a share of its floor

    Args:
        shapes: of 7b, nemo, small24b, mixtral, 350m, moe-400m, tiny and tiny-moe, separated by commas.
        cells: start, prefill (2048 and 8192 tokens) and decode (batches of 1, 8, 32 and 64 at 1024 tokens, 1 and 8 at 8192), or single ones such as prefill:4096 and decode:16x1024.
        quantize: int8, int4 or fp8 rounds the weights when they are drawn; without it they are bf16.
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes.
        new_tokens: that every sequence of a decode cell writes, at least 4.
        repeats: runs of each cell, at least 2, after one that does not count.
        time_limit: seconds after which nothing more is begun; cells that are not reached are named.
        profile: decode cells also say which kernels a step spends its time in.
        device: cuda, or cpu to try the command.
        output: also write the figures and their conditions to this JSON file, and the tables beside it as Markdown.
    """
    from mistral_local.bench.cells import parse_cells
    from mistral_local.bench.shapes import SHAPES

    names = [name.strip() for name in shapes.split(",")]
    if unknown := [name for name in names if name not in SHAPES]:
        raise UsageError(f"--shapes: expected some of {', '.join(SHAPES)}, got {unknown[0]!r}")
    if new_tokens < 4 or repeats < 2 or time_limit <= 0:
        raise UsageError("--new_tokens must be at least 4, --repeats at least 2, --time_limit more than 0")
    if find_launch().world_size > 1:
        raise UsageError("mistral-bench gpu measures one GPU; mistral-bench --shape 7b runs under torchrun")
    check_output(output)
    wanted = parse_cells(cells)
    import torch

    from mistral_local.bench.gpu import GpuBench
    from mistral_local.bench.gpu_report import gpu_report
    from mistral_local.bench.stopwatch import TimeLimit

    if device == "cuda" and not torch.cuda.is_available():
        raise MistralLocalError("there is no CUDA device; --device cpu --shapes tiny tries the command without one")

    def keep(report: dict[str, Any]) -> None:
        save(report, output)
        if output is not None:
            Path(output).with_suffix(".md").write_text(gpu_report(report), encoding="utf-8")

    bench = GpuBench(
        device=torch.empty(0, device=device).device,
        cells=wanted,
        quantize=quantize,
        kv_dtype=kv_dtype,
        new_tokens=new_tokens,
        repeats=repeats,
        limit=TimeLimit(time_limit),
        with_profile=profile,
        save=keep,
        note=Console().note,
    )
    print(gpu_report(bench.run(names)), end="")
