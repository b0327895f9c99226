"""mistral-bench: how fast a checkpoint runs here, as shares of what this machine could do at best."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mistral_local.cli.bench_output import check_output, save
from mistral_local.cli.console import Console
from mistral_local.cli.environment import server_key
from mistral_local.cli.find_server import parse_address
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.cli.server_process import serving_process
from mistral_local.config import KVDtype, QuantFormat
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.errors import UsageError
from mistral_local.parallel.launch import find_launch

Dtype = Literal["float32", "bfloat16", "float16"]

if TYPE_CHECKING:
    from mistral_local.bench.load import Workload


def run(
    model_path: str | None = None,
    *,
    shape: str | None = None,
    batch_sizes: str = "1,8",
    prompt_tokens: int = 512,
    new_tokens: int = 64,
    repeats: int = 3,
    device: str | None = None,
    quantize: QuantFormat | None = None,
    kv_dtype: KVDtype = "auto",
    num_pipeline_ranks: int = 1,
    output: str | None = None,
) -> None:
    """measure load time, prefill and decode, each as a share of this machine's own limit

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; the bundled demo checkpoint if absent.
        shape: measure random bf16 weights instead: 350m, moe-400m or 7b.
        batch_sizes: sequences that decode together, separated by commas.
        prompt_tokens: tokens per prompt.
        new_tokens: tokens per answer, at least 2.
        repeats: each figure is the median of so many runs, after one that does not count.
        device: cuda or cpu; cuda if there is one.
        quantize: int8, int4 or fp8 rounds the weights first; without it they stay as stored.
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes.
        num_pipeline_ranks: under torchrun, stages that the layers are divided into.
        output: also write the figures and their conditions to this JSON file.
    """
    from mistral_local.bench.report import measure, table

    if new_tokens < 2 or prompt_tokens < 1 or repeats < 1:
        raise UsageError("--new_tokens must be at least 2, --prompt_tokens and --repeats at least 1")
    check_output(output)
    console = _console()
    with _checkpoint(model_path, shape, console) as (folder, name):
        report = measure(
            folder,
            name=name,
            batch_sizes=_numbers(batch_sizes),
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            repeats=repeats,
            device=device,
            quantize=quantize,
            kv_dtype=kv_dtype,
            num_pipeline_ranks=num_pipeline_ranks,
            note=console.note,
        )
    print(table(report))
    save(report, output)


def throughput(
    model_path: str | None = None,
    *,
    shape: str | None = None,
    num_requests: int = 64,
    prompt_tokens: int = 128,
    new_tokens: int = 64,
    max_num_seqs: int = 16,
    max_guesses: int = 0,
    seed: int = 0,
    device: str | None = None,
    quantize: QuantFormat | None = None,
    kv_dtype: KVDtype = "auto",
    num_pipeline_ranks: int = 1,
    output: str | None = None,
) -> None:
    """serve many requests of mixed lengths that come all at once

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; the bundled demo checkpoint if absent.
        shape: measure random bf16 weights instead: 350m, moe-400m or 7b.
        num_requests: how many.
        prompt_tokens: median length of a prompt; lengths are log-normal, at most four times as long.
        new_tokens: the same of an answer.
        max_num_seqs: so many run at the same time.
        max_guesses: tokens that n-gram lookup may guess per step; 0 does not speculate.
        seed: the same seed, the same requests.
        device: cuda or cpu; cuda if there is one.
        quantize: int8, int4 or fp8 rounds the weights first; without it they stay as stored.
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes.
        num_pipeline_ranks: under torchrun, stages that the layers are divided into.
        output: also write the figures and their conditions to this JSON file.
    """
    _serve(
        _workload(None, num_requests, prompt_tokens, new_tokens, seed),
        model_path=model_path,
        shape=shape,
        max_num_seqs=max_num_seqs,
        max_guesses=max_guesses,
        device=device,
        quantize=quantize,
        kv_dtype=kv_dtype,
        num_pipeline_ranks=num_pipeline_ranks,
        output=output,
    )


def serving(
    model_path: str | None = None,
    *,
    shape: str | None = None,
    rate: float = 1.0,
    num_requests: int = 64,
    prompt_tokens: int = 128,
    new_tokens: int = 64,
    max_num_seqs: int = 16,
    max_guesses: int = 0,
    seed: int = 0,
    device: str | None = None,
    quantize: QuantFormat | None = None,
    kv_dtype: KVDtype = "auto",
    num_pipeline_ranks: int = 1,
    output: str | None = None,
) -> None:
    """serve requests that arrive as a Poisson process

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; the bundled demo checkpoint if absent.
        shape: measure random bf16 weights instead: 350m, moe-400m or 7b.
        rate: arrivals per second.
        num_requests: how many.
        prompt_tokens: median length of a prompt; lengths are log-normal, at most four times as long.
        new_tokens: the same of an answer.
        max_num_seqs: so many run at the same time.
        max_guesses: tokens that n-gram lookup may guess per step; 0 does not speculate.
        seed: the same seed, the same requests.
        device: cuda or cpu; cuda if there is one.
        quantize: int8, int4 or fp8 rounds the weights first; without it they stay as stored.
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes.
        num_pipeline_ranks: under torchrun, stages that the layers are divided into.
        output: also write the figures and their conditions to this JSON file.
    """
    if rate <= 0:
        raise UsageError(f"--rate: expected more than 0, got {rate:g}")
    _serve(
        _workload(rate, num_requests, prompt_tokens, new_tokens, seed),
        model_path=model_path,
        shape=shape,
        max_num_seqs=max_num_seqs,
        max_guesses=max_guesses,
        device=device,
        quantize=quantize,
        kv_dtype=kv_dtype,
        num_pipeline_ranks=num_pipeline_ranks,
        output=output,
    )


def http(
    model_path: str | None = None,
    *,
    shape: str | None = None,
    url: str | None = None,
    streams: int = 16,
    prompt_words: int = 48,
    new_tokens: int = 128,
    rounds: int = 5,
    firsts: int = 20,
    device: str | None = None,
    dtype: Dtype | None = None,
    output: str | None = None,
) -> None:
    """compare a server with its engine alone: what HTTP adds

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; the bundled demo checkpoint if absent.
        shape: measure random bf16 weights instead: 350m, moe-400m or 7b.
        url: measure a server that runs there, alone; its key is $MISTRAL_LOCAL_API_KEY.  Without it one is started.
        streams: answers that are streamed at the same time.
        prompt_words: of each prompt.
        new_tokens: of each answer, at least 2.
        rounds: each figure is the median of so many; server and engine take turns.
        firsts: first tokens that are waited for, one at a time.
        device: cuda or cpu; cuda if there is one.
        dtype: float32, bfloat16 or float16; as stored if absent.
        output: also write the figures and their conditions to this JSON file.
    """
    from mistral_local.bench.http_client import Client
    from mistral_local.bench.http_load import HttpLoad, measure_server
    from mistral_local.bench.report import http_table, measure_http

    if min(streams, prompt_words, rounds, firsts) < 1 or new_tokens < 2:
        raise UsageError("--new_tokens must be at least 2, --streams, --prompt_words, --rounds and --firsts at least 1")
    if url is not None and any(flag is not None for flag in (model_path, shape, device, dtype)):
        raise UsageError("--url: the server that runs there has its checkpoint, device and dtype already")
    if find_launch().world_size > 1:
        raise UsageError("start a server by torchrun and give its address by --url")
    check_output(output)
    console = Console()
    load = HttpLoad(streams=streams, prompt_words=prompt_words, new_tokens=new_tokens, rounds=rounds, firsts=firsts)
    if url is not None:
        address = parse_address(url)
        figures = measure_server(Client(address, server_key()), load, console.note)
        print(f"{address}: {streams} streams of {new_tokens} new tokens")
        print(f"over HTTP        {figures['tokens_per_s']:10.1f} tok/s")
        print(f"first token      {figures['first_token_ms']:10.1f} ms")
        save({"conditions": {"url": address} | asdict(load), "http": figures}, output)
        return
    with _checkpoint(model_path, shape, console) as (folder, name):
        how = [f"--max_batch_size={streams}", f"--max_context={load.max_context}"]
        how += [f"--{flag}={value}" for flag, value in (("device", device), ("dtype", dtype)) if value is not None]
        with serving_process(folder, how) as (address, key, pid):
            client = Client(address, key, pid)
            report = measure_http(folder, client, load, name=name, device=device, dtype=dtype, note=console.note)
    print(http_table(report))
    save(report, output)


def _workload(rate: float | None, num_requests: int, prompt_tokens: int, new_tokens: int, seed: int) -> "Workload":
    from mistral_local.bench.load import Workload

    if min(num_requests, prompt_tokens, new_tokens) < 1:
        raise UsageError("--num_requests, --prompt_tokens and --new_tokens must be at least 1")
    return Workload(num_requests=num_requests, prompt_tokens=prompt_tokens, new_tokens=new_tokens, rate=rate, seed=seed)


def _serve(
    workload: "Workload", *, model_path: str | None, shape: str | None, output: str | None, **limits: Any
) -> None:
    from mistral_local.bench.report import measure_workload, workload_table

    check_output(output)
    with _checkpoint(model_path, shape, _console()) as (folder, name):
        report = measure_workload(folder, workload, name=name, **limits)
    print(workload_table(report))
    save(report, output)


def _console() -> Console:
    """Of the ranks of torchrun only the first says what is being done."""
    return Console(err=open(os.devnull, "w", encoding="utf-8")) if find_launch().is_follower else Console()


@contextmanager
def _checkpoint(model_path: str | None, shape: str | None, console: Console) -> Iterator[tuple[Path, str]]:
    """The folder to measure and its name; random weights are gone afterwards."""
    from mistral_local.bench.shapes import CHECKPOINT_SHAPES, write_random_checkpoint

    if shape is None:
        folder = find_model_folder(model_path) or demo_checkpoint()
        yield folder, folder.name if model_path else "demo"
        return
    if shape not in CHECKPOINT_SHAPES:
        raise UsageError(f"--shape: expected one of {', '.join(CHECKPOINT_SHAPES)}, got {shape!r}")
    with tempfile.TemporaryDirectory() as scratch:
        console.note(f"writing random weights of shape {shape}")
        yield write_random_checkpoint(Path(scratch), shape), shape


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--batch_sizes: expected numbers such as 1,8, got {text!r}")
    return [int(part) for part in parts]
