"""Runs a generated program inside bubblewrap: no network, no files of ours, an unprivileged user, limits."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

SECONDS, MEMORY_BYTES, OUTPUT_BYTES = 5, 512 << 20, 1 << 20


def limit() -> None:
    """Set the limits of the child process."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))


def command(code: str) -> list[str]:
    """Return the bubblewrap command line; only the interpreter and system libraries are visible, read-only."""
    roots = [path for path in ("/usr", "/lib", "/lib64", "/bin", sys.base_prefix) if Path(path).exists()]
    binds = [part for path in dict.fromkeys(roots) for part in ("--ro-bind", path, path)]
    python = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    flags = ["--unshare-all", "--uid", "65534", "--gid", "65534", "--die-with-parent", "--new-session", "--clearenv"]
    return [
        "bwrap",
        *flags,
        *binds,
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/tmp",
        "--",
        python,
        "-I",
        "-c",
        code,
    ]


def run_sandboxed(code: str) -> str | None:
    """Return what a program prints, or None where it fails, hangs or is not text."""
    if shutil.which("bwrap") is None:
        raise SystemExit(
            "Error: generated programs run in bubblewrap only, and it is not there; apt install bubblewrap"
        )
    try:
        done = subprocess.run(command(code), capture_output=True, timeout=2 * SECONDS, preexec_fn=limit, check=False)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
