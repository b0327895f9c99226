"""exec_python: the tool by which a model runs Python, in the sandbox and nowhere else."""

from __future__ import annotations

from typing import Annotated

from mistral_local.tools import sandbox
from mistral_local.tools.tool import Tool, tool

DESCRIPTION = "Execute Python to solve problems. Always print output to stdout. There is no network and no subprocess."
CODE = "The Python code to execute."


def check_sandbox(box: sandbox.Sandbox | None = None) -> None:
    """Prove that code can be run safely on this machine, in this sandbox or the default one.

    Raises:
        SandboxUnavailableError: if it cannot; nothing was run.
    """
    (box or sandbox).run("")


def make_exec_python(*, timeout_s: float = 30.0, memory_mb: int = 512, box: sandbox.Sandbox | None = None) -> Tool:
    """Make the tool; every call runs in a fresh sandbox, without network, and leaves nothing behind.

    Args:
        timeout_s: most seconds of a run.
        memory_mb: most memory of a run, in MiB.
        box: the sandbox to run in; None is the default one.
    """

    def exec_python(code: Annotated[str, CODE]) -> str:
        return run_python(code, timeout_s=timeout_s, memory_mb=memory_mb, box=box)

    return tool(description=DESCRIPTION, timeout_s=timeout_s + 30)(exec_python)  # it may wait for a free place


def run_python(code: str, *, timeout_s: float, memory_mb: int, box: sandbox.Sandbox | None = None) -> str:
    """Run a program and return what a model is told of it: what it printed, or what went wrong.

    Raises:
        SandboxError: if there is no sandbox, or it fails; never because of the program.
        RequestError: if the program or a limit cannot be.
    """
    result = (box or sandbox).run(code, timeout=timeout_s, memory_mb=memory_mb)
    if result.exit_code == 0:
        return result.stdout or "(the program printed nothing)"
    parts = [result.stdout.rstrip("\n"), result.stderr.rstrip("\n"), f"exit code {result.exit_code}"]
    return "\n".join(part for part in parts if part)
