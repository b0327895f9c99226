"""Whether Triton's kernels are right on the GPU at hand: they serve where they have been seen to be.

A kernel that is right in Triton's interpreter may still be compiled wrongly for one GPU by one version of Triton.  So the
first time that they could serve on a GPU, `check` compares all of them with torch there, in a process of its own, which may
crash or hang as it likes.  That they were right is remembered until the kernels, torch, Triton or the GPU's driver change; that
they were not is found anew by the next process, because a GPU may have been short of memory.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import torch

from mistral_local.kernels.cache_folder import cache_folder

TIMEOUT_S = 900
"""The check compiles some 200 kernels one after the other, which takes minutes where others want the CPU too."""


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
        failure = _check(device)
        if failure is None:
            with suppress(OSError):  # a full disk: the next process checks again
                record.touch()
            return []
    return [f"Triton's kernels failed their check on this GPU: {failure}"]


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let the ranks of a machine check one after the other, where the file system has locks."""
    with ExitStack() as stack:
        with suppress(OSError):
            fcntl.flock(stack.enter_context(open(file, "w", encoding="utf-8")), fcntl.LOCK_EX)
        yield


def _check(device: torch.device) -> str | None:
    """Run the check; returns what went wrong."""
    command = [sys.executable, "-m", "mistral_local.kernels.triton.check", str(device)]
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
