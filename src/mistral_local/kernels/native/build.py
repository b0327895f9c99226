"""Compile kernels.c once per machine and keep the result in the user's cache."""

import os
import platform
import shutil
import subprocess
import tempfile
from hashlib import blake2b
from pathlib import Path

from mistral_local.kernels.cache_folder import cache_folder

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC", "-std=gnu11")
TIMEOUT_S = 60


class CannotBuild(Exception):  # noqa: N818 - it is a reason, caught by the one caller
    """Why there are no compiled kernels."""


def build(*options: str) -> Path:
    """The compiled library; compiled now if this source was never compiled for this CPU.

    Args:
        options: of the compiler, such as -DQUANTIZED.

    Raises:
        CannotBuild: without a compiler, or if it fails.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
    if compiler is None:
        raise CannotBuild("no C compiler was found (apt install gcc)")
    folder = cache_folder()
    flags = (*FLAGS, *options)
    library = folder / f"kernels-{_key(compiler, flags)}.so"
    if not library.exists():
        _compile(compiler, flags, library)
    return library


def _compile(compiler: str, flags: tuple[str, ...], library: Path) -> None:
    """Write beside the place and rename, so that another process never loads half a file."""
    handle, unfinished = tempfile.mkstemp(suffix=".so", dir=library.parent)
    os.close(handle)
    try:
        command = [compiler, *flags, "-o", unfinished, str(SOURCE), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            first_line = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
            raise CannotBuild(f"{compiler} failed: {first_line}")
        os.replace(unfinished, library)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuild(f"{compiler} failed: {error}") from error
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _key(compiler: str, flags: tuple[str, ...]) -> str:
    """Changes with the source, the flags, the compiler and the CPU."""
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuild(f"{compiler} cannot be run: {error}") from error
    parts = (SOURCE.read_bytes(), " ".join(flags).encode(), compiler.encode(), version, _cpu())
    return blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def _cpu() -> bytes:
    """What the CPU can do, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    told = (b"model name", b"flags", b"CPU part", b"Features")
    return b"\n".join(sorted({line for line in lines if line.startswith(told)}))
