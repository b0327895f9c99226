"""One run of figures with the conditions they hold under."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mistral_local.bench.ceilings import measure_ceilings
from mistral_local.bench.conditions import conditions_of
from mistral_local.bench.http_client import Client
from mistral_local.bench.http_load import HttpLoad, measure_overhead
from mistral_local.bench.load import Workload, measure_bookkeeping, measure_load
from mistral_local.bench.measure import load_model, measure_decode, measure_loading, measure_prefill
from mistral_local.config import KVDtype, QuantFormat
from mistral_local.engine.driver import ask_memory
from mistral_local.engine.follower import memory_of
from mistral_local.model.transformer import Transformer


def measure(
    folder: Path,
    *,
    name: str,
    batch_sizes: list[int],
    prompt_tokens: int,
    new_tokens: int,
    repeats: int,
    device: str | None,
    quantize: QuantFormat | None,
    kv_dtype: KVDtype,
    num_pipeline_ranks: int,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a checkpoint; the result is plain data, and `note` hears what is being measured.

    On several GPUs the limit is that of all of them together; ranks on CPUs share one machine.
    """
    note("loading")
    model, load = measure_loading(
        folder, device=device, dtype=None, quantize=quantize, num_pipeline_ranks=num_pipeline_ranks
    )
    note("the machine")
    before = measure_ceilings(model.device, model.dtype)
    together = before.of_several(model.world.size if model.device.type == "cuda" else 1)
    note("prefill")
    prefill = measure_prefill(model, together, prompt_tokens=prompt_tokens, repeats=repeats, kv_dtype=kv_dtype)
    decode = {}
    for batch_size in batch_sizes:
        note(f"decode, batch {batch_size}")
        decode[str(batch_size)] = measure_decode(
            model,
            together,
            batch_size=batch_size,
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            repeats=repeats,
            kv_dtype=kv_dtype,
        )
    return {
        "conditions": conditions_of(name, model)
        | {"prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "repeats": repeats, "kv_dtype": kv_dtype},
        "ceilings": {"before": asdict(before), "after": asdict(measure_ceilings(model.device, model.dtype))},
        "load": asdict(load) | {"ratio": load.ratio},
        "prefill": asdict(prefill),
        "decode": {batch_size: asdict(speed) for batch_size, speed in decode.items()},
        **_memory(model),
    }


def measure_workload(
    folder: Path,
    workload: Workload,
    *,
    name: str,
    max_num_seqs: int,
    max_guesses: int,
    device: str | None,
    quantize: QuantFormat | None,
    kv_dtype: KVDtype,
    num_pipeline_ranks: int,
) -> dict[str, Any]:
    """Serve a workload with a checkpoint; the result is plain data."""
    model = load_model(folder, device=device, quantize=quantize, num_pipeline_ranks=num_pipeline_ranks)
    return {
        "conditions": conditions_of(name, model)
        | asdict(workload)
        | {"max_num_seqs": max_num_seqs, "max_guesses": max_guesses, "kv_dtype": kv_dtype},
        "load": measure_load(model, workload, max_num_seqs=max_num_seqs, max_guesses=max_guesses, kv_dtype=kv_dtype),
        "bookkeeping_ms_per_step_of_64": measure_bookkeeping(num_seqs=64),
        **_memory(model),
    }


def measure_http(
    folder: Path,
    client: Client,
    load: HttpLoad,
    *,
    name: str,
    device: str | None,
    dtype: str | None,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Compare a server of a checkpoint with the engine alone; the result is plain data."""
    model = Transformer.from_folder(folder, device=device, dtype=None if dtype is None else getattr(torch, dtype))
    return {
        "conditions": conditions_of(name, model) | asdict(load),
        "http": measure_overhead(model, client, load, note),
    }


def http_table(report: dict[str, Any]) -> str:
    """The figures of measure_http() as lines for a person."""
    conditions, http = report["conditions"], report["http"]
    lines = [
        _headline(conditions),
        f"{conditions['streams']} streams of {conditions['new_tokens']} new tokens, median of {conditions['rounds']} "
        f"rounds in turns; load average {http['load_average'][0]:.1f}",
        "",
        f"engine alone     {http['engine_tokens_per_s']:10.1f} tok/s",
        f"over HTTP        {http['server_tokens_per_s']:10.1f} tok/s      {100 * http['overhead']:8.1f} % fewer",
        f"first token      {http['server_first_token_ms']:10.1f} ms         {http['added_first_token_ms']:8.1f} ms more than alone",
    ]
    if http["server_cpu_us_per_token"] is not None:
        added = http["server_cpu_us_per_token"] - http["engine_cpu_us_per_token"]
        lines.append(
            f"server CPU       {http['server_cpu_us_per_token']:10.0f} us/tok     {added:8.0f} us more than alone; "
            f"{http['loop_cpu_us_per_token']:.0f} us on the event loop"
        )
    return "\n".join(lines)


def workload_table(report: dict[str, Any]) -> str:
    """The figures of a workload as lines for a person."""
    conditions, load = report["conditions"], report["load"]
    arrivals = "all at once" if conditions["rate"] is None else f"{conditions['rate']:g} arrivals per second"
    return "\n".join(
        [
            _headline(conditions),
            f"{load['requests']} requests, {arrivals}, about {conditions['prompt_tokens']} prompt and "
            f"{conditions['new_tokens']} new tokens each, {conditions['max_num_seqs']} at a time",
            "",
            f"prompt tokens    {load['prompt_tokens_per_s']:10.1f} tok/s",
            f"new tokens       {load['new_tokens_per_s']:10.1f} tok/s",
            _times("first token", load["time_to_first_token_s"]),
            _times("between tokens", load["between_tokens_s"]),
            f"bookkeeping      {report['bookkeeping_ms_per_step_of_64']:10.2f} ms per step of 64 sequences",
            *_memory_lines(report),
        ]
    )


def _memory_lines(report: dict[str, Any]) -> list[str]:
    """One line per rank."""
    ranks = report["ranks"]
    names = [f"rank {rank}, peak" for rank in range(len(ranks))] if len(ranks) > 1 else ["peak memory"]
    return [
        f"{name:17}{rank['peak'] / 1e9:10.2f} GB      weights {rank['weights'] / 1e9:5.2f} GB"
        for name, rank in zip(names, ranks, strict=True)
    ]


def _headline(conditions: dict[str, Any]) -> str:
    ranks = f", {conditions['ranks']} ranks in {conditions['stages']} stage(s)" if conditions["ranks"] > 1 else ""
    return (
        f"{conditions['model']}, {conditions['dtype']} on {conditions['hardware']}, {conditions['threads']} thread(s), "
        f"torch {conditions['torch']}{ranks}"
    )


def _times(name: str, seconds: dict[str, float]) -> str:
    shown = "   ".join(f"{key} {1000 * value:8.1f} ms" for key, value in seconds.items())
    return f"{name:17}   {shown}"


def table(report: dict[str, Any]) -> str:
    """The figures as lines for a person."""
    conditions, load, ceilings = report["conditions"], report["load"], report["ceilings"]["before"]
    lines = [
        _headline(conditions),
        f"{conditions['prompt_tokens']} prompt tokens, {conditions['new_tokens']} new tokens, "
        f"median of {conditions['repeats']}",
        "",
        f"machine          {ceilings['read_bytes_per_s'] / 1e9:10.1f} GB/s read  {ceilings['flops'] / 1e12:8.2f} TFLOP/s",
        f"load to 1st token{load['first_token_s']:10.2f} s          {load['ratio']:8.2f} x reading the file and one step",
        _line("prefill", report["prefill"]),
        *(_line(f"decode, batch {size}", speed) for size, speed in report["decode"].items()),
        *_memory_lines(report),
    ]
    return "\n".join(lines)


def _line(name: str, speed: dict[str, float]) -> str:
    return f"{name:17}{speed['tokens_per_s']:10.1f} tok/s      {100 * speed['share_of_floor']:8.0f} % of the limit"


def _memory(model: Transformer) -> dict[str, Any]:
    """Of this process, and of every rank."""
    own = memory_of(model)
    ranks = [own, *(ask_memory(model.world) if model.world.size > 1 else [])]
    return {"peak_memory_bytes": own.peak, "weight_bytes": own.weights, "ranks": [asdict(rank) for rank in ranks]}
