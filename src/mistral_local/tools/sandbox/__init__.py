"""A sandbox for Python programs that a model wrote.

    from mistral_local.tools.sandbox import run

    result = run("print(1 + 1)")        # ExecResult(stdout="2\\n", stderr="", exit_code=0, ...)

`run` and `arun` use one default `Sandbox`.  docs/sandbox.md says what it covers, and what it does not.
"""

from mistral_local.tools.sandbox.result import ExecResult
from mistral_local.tools.sandbox.sandbox import Sandbox
from mistral_local.tools.sandbox.session import Session

_default = Sandbox()
run = _default.run
arun = _default.arun

__all__ = ["ExecResult", "Sandbox", "Session", "arun", "run"]
