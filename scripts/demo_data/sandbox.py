"""Runs a generated program in the sandbox that models' programs run in."""

from mistral_local.tools.sandbox import run

SECONDS = 10


def run_sandboxed(code: str) -> str | None:
    """Return what a program prints, or None where it fails, hangs or writes too much."""
    result = run(code, timeout=SECONDS)
    return result.stdout if result.exit_code == 0 else None
