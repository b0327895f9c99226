"""mistral-serve: one local server for the published clients."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mistral_local.cli.console import Console
from mistral_local.cli.environment import server_key
from mistral_local.cli.loading import find_placement, follow, show_loading
from mistral_local.config import KVDtype, QuantFormat, Speculation
from mistral_local.errors import RankLostError, UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mistral_local.server.settings import ServerSettings

LogFormat = Literal["text", "json"]

MAX_BATCH_SIZE, MAX_WAITING = 16, 64

log = logging.getLogger("mistral_local.server")


def serve(
    model_path: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    api_key_file: str | None = None,
    max_batch_size: int = MAX_BATCH_SIZE,
    max_waiting: int = MAX_WAITING,
    max_context: int | None = None,
    kv_memory: str | None = None,
    kv_dtype: KVDtype = "auto",
    temperature: float | None = None,
    device: str | None = None,
    dtype: str | None = None,
    num_threads: int | None = None,
    lora_path: str | None = None,
    quantize: QuantFormat | None = None,
    speculate: Speculation = "off",
    deterministic: bool = False,
    execute: bool = False,
    content_filter: bool = False,
    limits: tuple[str, ...] = (),
    allowed_origins: tuple[str, ...] = (),
    drain_seconds: int = 30,
    num_pipeline_ranks: int = 1,
    expert_parallel: bool = False,
    log_format: LogFormat = "text",
) -> None:
    """serve a model to the clients of Mistral, OpenAI and Azure

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; without it the bundled demo checkpoint is used
        host: address to listen on; any but this machine's own needs a key
        port: port to listen on; 0 takes a free one
        api_key: key that clients must show; others on this machine can read it in the list of processes, so prefer the file or $MISTRAL_LOCAL_API_KEY
        api_key_file: file whose first line is the key
        max_batch_size: requests that are answered at the same time; more wait
        max_waiting: requests that wait at most; more are told to come again (429)
        max_context: context length in tokens; without it that of the checkpoint
        kv_memory: memory of the KV cache, such as 4GB; without it what the requests need, as far as memory is free
        kv_dtype: fp8 stores keys and values in half the memory, rounded; auto as the model computes
        temperature: of requests that name none; without it 0.7, for the demo checkpoint 0
        device: cpu, cuda, cuda:1 ...; without it cuda if there is one
        dtype: float32, bfloat16 or float16; without it as stored
        num_threads: CPU threads; without it as many as torch takes, and one for a tiny model
        lora_path: LoRA adapter (safetensors file) to merge into the weights
        quantize: int8, int4 or fp8 rounds the weights while they are read; without it they stay as stored
        speculate: ngram guesses words that occurred before and verifies them
        deterministic: the same bits for a request whatever runs beside it; bfloat16 on a CPU only, and slower prompts
        execute: run programs that clients send to /v1/execute, in the sandbox (Linux with bubblewrap)
        content_filter: let the model judge each prompt first, and refuse harmful ones as Azure does; only as good as the model
        limits: limits of one request to change, such as 'choices=4 body_bytes=8MB'; all are printed at start
        allowed_origins: web pages whose scripts may ask, such as https://example.org; those of this machine may
        drain_seconds: how long answers may go on after SIGTERM or Ctrl-C; a second one ends them
        num_pipeline_ranks: under torchrun, stages that the layers are divided into; the ranks of a stage share each layer
        expert_parallel: under torchrun, let ranks hold different experts instead of a part of each
        log_format: text or json, on stderr

    Raises:
        UsageError: if the flags cannot be, or the port is taken.
    """
    with _server_extra():
        from mistral_local.server.settings import Limits, ServerSettings
    console = Console()
    folder = find_placement(model_path, num_pipeline_ranks)
    settings = ServerSettings(
        host=host,
        port=port,
        api_key=_key(api_key, api_key_file),
        allowed_origins=allowed_origins,
        temperature=default_temperature(folder) if temperature is None else temperature,
        executes=execute,
        filters_content=content_filter,
        drain_seconds=drain_seconds,
        limits=Limits().changed(limits),
    )
    how: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "num_threads": num_threads,
        "max_batch_size": max_batch_size,
        "max_waiting": max_waiting,
        "max_context": max_context,
        "kv_memory": kv_memory,
        "kv_dtype": kv_dtype,
        "speculate": speculate,
        "deterministic": deterministic,
        "lora_path": lora_path,
        "quantize": quantize,
        "num_pipeline_ranks": num_pipeline_ranks,
        "expert_parallel": expert_parallel,
    }
    follow(folder, **how)
    app = load_app(folder, settings, console, **how)
    from mistral_local.server.log import set_up_log
    from mistral_local.server.run import run_app

    set_up_log(log_format, sys.stderr)
    llm = app.state.server.llm
    if content_filter and not llm.can_moderate:
        raise UsageError("--content_filter: this model's tokenizer has no tokens for yes and no")

    def tell(url: str) -> None:
        log.info("%s: %s", llm.name, llm.description)
        log.info("limits: max_batch_size=%d max_waiting=%d %s", max_batch_size, max_waiting, settings.limits)
        log.info("key: %s", "needed" if settings.api_key else "none; whoever is on this machine may ask")
        log.info("ready at %s (OpenAI clients: %s/v1)", url, url)

    def stop(cause: str) -> None:
        console.error(RankLostError(cause))
        app.state.server.has_failed = True
        llm.give_up(cause)
        os.kill(os.getpid(), signal.SIGTERM)  # in good order: those who wait are told

    llm.world.on_loss = stop
    run_app(app, on_start=tell)
    if llm.world.lost is not None:
        raise SystemExit(RankLostError.exit_code)


def default_temperature(folder: Path | None) -> float:
    """Of requests that name none; the demo checkpoint (None) is too small for answers by chance."""
    return 0.0 if folder is None else 0.7


def load_app(
    folder: Path | None,
    settings: "ServerSettings",
    console: Console,
    *,
    max_batch_size: int = MAX_BATCH_SIZE,
    max_waiting: int = MAX_WAITING,
    **how: Any,
) -> "FastAPI":
    """Load a model and make the app that serves it.

    Args:
        folder: None is the bundled demo checkpoint.
        how: other keywords of load_runtime().

    Raises:
        UsageError: if the libraries of the server are missing.
    """
    with _server_extra():
        from mistral_local.server.app import make_app  # imports torch
    from mistral_local.tasks.async_llm import AsyncLLM
    from mistral_local.tasks.loading import load_runtime

    runtime = show_loading(load_runtime, folder, console, max_batch_size=max_batch_size, max_waiting=max_waiting, **how)
    return make_app(AsyncLLM(runtime, note=log.info), settings)


def _key(key: str | None, file: str | None) -> str | None:
    """The key from the flag, the file or the environment, in this order."""
    if key is not None and file is not None:
        raise UsageError("--api_key and --api_key_file: give one of them")
    if file is None:
        return key if key is not None else server_key()
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not text"
        raise UsageError(f"--api_key_file {file}: {reason}") from error
    if not lines or not lines[0].strip():
        raise UsageError(f"--api_key_file {file}: its first line is empty")
    return lines[0].strip()


@contextlib.contextmanager
def _server_extra() -> Iterator[None]:
    """Say what to install if the libraries of the server are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mistral_local"):
            raise
        raise UsageError(f"mistral-serve needs {error.name}: pip install 'mistral_local[server]'") from error
