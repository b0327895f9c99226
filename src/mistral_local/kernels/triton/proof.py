"""Whether Triton's kernels are right on the GPU at hand: they serve where they have been seen to be.

A kernel that is right in Triton's interpreter may still be compiled wrongly for one GPU by one version of Triton.  So the
first time that they could serve on a GPU, `check` compares all of them with torch there, in processes of its own, which may
crash or hang as they like.  That they were right is remembered until the kernels, torch, Triton or the GPU's driver change; that
they were not for some minutes only, because a GPU may have been short of memory.

A GPU that takes one process at a time cannot be checked while it is in use: there somebody runs `check` by hand, once.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import torch

from mistral_local.kernels.cache_folder import cache_folder

TIMEOUT_S = 900
"""The check compiles some 200 kernels, which takes minutes where others want the CPU too."""

MOST_PARTS = 4
"""Processes that share the check, each of which takes some memory of the GPU."""

FAILURE_HOLDS_S = 600
"""So long other processes believe a failure, such as the other ranks of this start."""


def is_proven(device: torch.device) -> bool:
    """Whether the kernels have been seen to be right on a GPU."""
    return _record(device).exists()


@cache
def reasons_against_trust(device: torch.device) -> list[str]:
    """What the check found on a GPU, in a line; empty when all kernels were right.  Takes minutes, once."""
    record = _record(device)
    with _alone(record.with_suffix(".lock")):
        if record.exists():
            return []
        failure = _recent_failure(record) or _check(device)
        if failure is None:
            remember(device)
            return []
        with suppress(OSError):
            record.with_suffix(".failed").write_text(failure, encoding="utf-8")
    return [f"Triton's kernels failed their check on this GPU: {failure}"]


def remember(device: torch.device) -> None:
    """The kernels have been seen to be right on a GPU."""
    with suppress(OSError):  # a full disk: the next process checks again
        _record(device).touch()


def _recent_failure(record: Path) -> str | None:
    """What another process found wrong a short while ago."""
    file = record.with_suffix(".failed")
    try:
        is_recent = time.time() - file.stat().st_mtime < FAILURE_HOLDS_S
        return file.read_text(encoding="utf-8") if is_recent else None
    except OSError:
        return None


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let the ranks of a machine check one after the other, where the file system has locks."""
    with ExitStack() as stack:
        with suppress(OSError):
            fcntl.flock(stack.enter_context(open(file, "w", encoding="utf-8")), fcntl.LOCK_EX)
        yield


def _check(device: torch.device) -> str | None:
    """Run the check; returns what went wrong."""
    num_parts = min(MOST_PARTS, os.cpu_count() or 1)
    with ThreadPoolExecutor(num_parts) as pool:
        failures = list(pool.map(lambda part: _check_part(device, f"{part}/{num_parts}"), range(num_parts)))
    return next(filter(None, failures), None)


def _check_part(device: torch.device, part: str) -> str | None:
    command = [sys.executable, "-m", "mistral_local.kernels.triton.check", str(device), part]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {TIMEOUT_S} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def _record(device: torch.device) -> Path:
    """A file that exists when all was right; its name changes with everything that could change that."""
    folder = Path(__file__).parent
    sources = [*sorted(folder.glob("*.py")), folder.parent / "quantized.py"]
    gpu = torch.cuda.get_device_properties(device)
    parts = [file.read_bytes() for file in sources]
    parts += [f"{torch.__version__} {version('triton')} {gpu.name} {gpu.major}.{gpu.minor} {_driver()}".encode()]
    return cache_folder() / f"triton-{blake2b(b'|'.join(parts), digest_size=8).hexdigest()}.proof"


def _driver() -> str:
    """The version of the driver, where the system says."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return ""
