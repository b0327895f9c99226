"""mistral-local run and env: point programs written for hosted services to this machine."""

import contextlib
import os
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from mistral_local.cli.console import Console
from mistral_local.cli.environment import server_key, server_url
from mistral_local.cli.find_server import Found, find_server, is_local, parse_address
from mistral_local.cli.loading import find_placement
from mistral_local.cli.program import check_program, run_program
from mistral_local.cli.serve import default_temperature, load_app
from mistral_local.clients.variables import client_variables
from mistral_local.config import KVDtype, QuantFormat
from mistral_local.errors import UsageError
from mistral_local.parallel.launch import find_launch
from mistral_local.server.settings import ServerSettings

DEFAULT_URL = "http://127.0.0.1:8000"
NO_KEY = "local"
"""Shown to a server that asks for none: clients refuse an empty key."""


def run(
    program: tuple[str, ...],
    /,
    model_path: str | None = None,
    *,
    url: str | None = None,
    api_key: str | None = None,
    max_context: int | None = None,
    kv_memory: str | None = None,
    kv_dtype: KVDtype | None = None,
    deterministic: bool = False,
    temperature: float | None = None,
    device: str | None = None,
    dtype: str | None = None,
    num_threads: int | None = None,
    lora_path: str | None = None,
    quantize: QuantFormat | None = None,
    log_file: str | None = None,
) -> None:
    """run a program written for Mistral, OpenAI, Azure or Riza against this machine

    If no server answers, or a checkpoint or one of its flags is named, one is started for the program on a free port,
    with a key of its own and the sandbox open, and stopped when the program ends.

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL, of a server of the program's own
        url: address of a running server; without it $MISTRAL_LOCAL_URL or http://127.0.0.1:8000
        api_key: its key; others on this machine can read it in the list of processes, so prefer $MISTRAL_LOCAL_API_KEY
        max_context: context length in tokens; without it that of the checkpoint
        kv_memory: memory of the KV cache, such as 4GB; without it what the requests need, as far as memory is free
        kv_dtype: fp8 stores keys and values in half the memory, rounded; without it, or with auto, they are as the model computes
        deterministic: the same bits for a request whatever runs beside it; bfloat16 on a CPU only, and slower prompts
        temperature: of requests that name none; without it 0.7, for the demo checkpoint 0
        device: cpu, cuda, cuda:1 ...; without it cuda if there is one
        dtype: float32, bfloat16 or float16; without it as stored
        num_threads: CPU threads; without it as many as torch takes, and one for a tiny model
        lora_path: LoRA adapter (safetensors file) to merge into the weights
        quantize: int8, int4 or fp8 rounds the weights while they are read; without it they stay as stored
        log_file: where the server that is started writes its log; without it nowhere

    Raises:
        UsageError: if the flags cannot be, or the server at the address cannot be used.
        SystemExit: with the exit code of the program.
    """
    check_program(program[0])
    if find_launch().world_size > 1:
        raise UsageError("start mistral-serve by torchrun, and the program beside it without torchrun")
    engine: dict[str, Any] = {
        "max_context": max_context,
        "kv_memory": kv_memory,
        "device": device,
        "dtype": dtype,
        "num_threads": num_threads,
        "lora_path": lora_path,
        "quantize": quantize,
    }
    if kv_dtype is not None:
        engine["kv_dtype"] = kv_dtype
    if deterministic:
        engine["deterministic"] = True
    of_own_server = {"DIR": model_path, "--temperature": temperature, "--log_file": log_file}
    of_own_server |= {f"--{name}": value for name, value in engine.items()}
    named = [name for name, value in of_own_server.items() if value is not None]
    if url is not None and named:
        raise UsageError(f"{named[0]} is for a server that is started, --url for one that runs: give one of them")
    key = api_key or server_key()
    address = None if named else _find(url, key)
    if address is not None:
        raise SystemExit(run_program(program, _variables(address, key)))
    folder = find_placement(model_path, 1)
    settings = ServerSettings(
        port=0,
        api_key=key or secrets.token_urlsafe(24),
        executes=True,
        drain_seconds=0,
        temperature=default_temperature(folder) if temperature is None else temperature,
    )
    with _log_stream(log_file) as log, _started(folder, settings, log, engine) as address:
        code = run_program(program, _variables(address, settings.api_key))
    raise SystemExit(code)


def env(*, url: str | None = None, api_key: str | None = None) -> None:
    """print the variables that point programs to a running server, as lines for a shell

    Args:
        url: address of the server; without it $MISTRAL_LOCAL_URL or http://127.0.0.1:8000
        api_key: its key; others on this machine can read it in the list of processes, so prefer $MISTRAL_LOCAL_API_KEY

    Raises:
        UsageError: if the server at the address cannot be used.
    """
    console = Console()
    key = api_key or server_key()
    running = _find(url, key)
    if running is None:
        running = parse_address(url or server_url() or DEFAULT_URL)
        console.note(f"no server answers at {running} yet; mistral-serve starts one")
    for name, value in _variables(running, key).items():
        console.raw_out(f"export {name}={shlex.quote(value)}\n")


def _find(url: str | None, key: str | None) -> str | None:
    """The address of the running server; None if there is none.

    What is at the default address and is no server that we may use is no concern of ours; at an address that was given it is.
    """
    given = url or server_url()
    address = parse_address(given or DEFAULT_URL)
    match find_server(address, key):
        case Found.READY:
            return address
        case Found.LOCKED if key is not None:
            raise UsageError(f"the server at {address} has another key")
        case Found.LOCKED if given is not None:
            raise UsageError(f"the server at {address} needs its key: --api_key KEY or MISTRAL_LOCAL_API_KEY")
        case Found.STRANGER if given is not None:
            raise UsageError(f"what answers at {address} is not mistral-serve")
        case Found.NOTHING if not is_local(address):
            raise UsageError(f"no server answers at {address}")
    return None


@contextlib.contextmanager
def _started(folder: Path | None, settings: ServerSettings, log: TextIO, engine: Mapping[str, Any]) -> Iterator[str]:
    """Load a model and serve it in this process; gives the address.  Progress is shown to a terminal only."""
    console = Console(err=sys.stderr if sys.stderr.isatty() else log)
    console.note(f"starting a server with {folder or 'the demo checkpoint'}")
    app = load_app(folder, settings, console, **engine)
    from mistral_local.server.log import set_up_log
    from mistral_local.server.run import running_app

    set_up_log("text", log)
    with running_app(app) as address:
        yield address


def _log_stream(log_file: str | None) -> TextIO:
    """Where the log goes, so that the stderr of the program is its own.

    Raises:
        UsageError: if the file cannot be written.
    """
    try:
        return open(log_file or os.devnull, "a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--log_file {log_file}: {error.strerror}") from error


def _variables(url: str, key: str | None) -> dict[str, str]:
    return client_variables(url, key or NO_KEY, os.environ, bypasses_proxy=is_local(url))
