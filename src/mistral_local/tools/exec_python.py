"""exec_python: the tool by which a model runs Python, in the sandbox and nowhere else."""

from __future__ import annotations

from typing import Annotated

from mistral_local.errors import ToolError
from mistral_local.tools.tool import Tool, tool

DESCRIPTION = "Execute Python to solve problems. Always print output to stdout."

CODE = "The Python code to execute."


def check_sandbox() -> None:
    """Prove that code can be run safely on this machine.

    Raises:
        ToolError: if it cannot.
    """
    raise ToolError("exec_python needs the sandbox, which is not there yet")


def make_exec_python(*, timeout_s: float = 30.0, memory_mb: int = 512) -> Tool:
    """Make the tool; every call runs in a fresh sandbox.

    Args:
        timeout_s: most seconds of a run.
        memory_mb: most memory of a run, in MiB.

    Raises:
        ToolError: when it is called and there is no sandbox on this machine; code is never run in this process.
    """

    def exec_python(code: Annotated[str, CODE]) -> str:
        raise ToolError("exec_python needs the sandbox, which is not there yet; nothing was executed")

    return tool(description=DESCRIPTION, timeout_s=timeout_s + 10)(exec_python)
