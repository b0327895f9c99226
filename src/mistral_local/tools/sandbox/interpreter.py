"""The Python that runs sandboxed programs, and what of it the sandbox must see."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mistral_local.errors import SandboxUnavailableError

_SYSTEM_PYTHON = "/usr/bin/python3"
_DESCRIBE = """
import importlib.util, json, os, sys
base = os.path.realpath(sys._base_executable or sys.executable)
print(json.dumps([list(sys.version_info[:2]), bool(importlib.util.find_spec({module!r})), sys.executable, base, sys.prefix, sys.base_prefix]))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python as the sandbox's user sees it.

    Attributes:
        executable: absolute path to start it by; in a virtual environment a link.
        base_executable: the program itself.
        prefix, base_prefix: `sys.prefix` and `sys.base_prefix`; they differ in a virtual environment.
    """

    executable: str
    base_executable: str
    prefix: str
    base_prefix: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables that it needs to find its own shared libraries."""
        return {} if self.base_prefix == "/usr" else {"LD_LIBRARY_PATH": f"{self.base_prefix}/lib"}

    def is_below(self, folder: str) -> bool:
        """Whether any of it lies in this folder."""
        return any(path.startswith(f"{folder}/") for path in (self.executable, self.base_executable, self.prefix))

    def bindings(self) -> list[str]:
        """bubblewrap's arguments that show the interpreter and its libraries, and nothing else under its prefix."""
        arguments = ["--ro-bind", self.base_executable, self.base_executable]
        for prefix in {self.base_prefix, self.prefix} - {"/usr"}:
            for part in ("lib", "lib64", "share/zoneinfo", "pyvenv.cfg"):
                path = Path(prefix, part)
                if path.is_symlink():  # lib64 of a virtual environment
                    arguments += ["--symlink", str(path.readlink()), str(path)]
                else:
                    arguments += ["--ro-bind-try", str(path), str(path)]
        if self.executable != self.base_executable:
            arguments += ["--symlink", self.base_executable, self.executable]
        return arguments


def find_interpreter(
    python: str | None, *, user: int | None, oldest: tuple[int, int] = (3, 11), module: str | None = None
) -> Interpreter:
    """Describe the interpreter to use: the one asked for; else the running one, or the system's if that is unreadable.

    Args:
        python: path of an interpreter, or None.
        user: the uid (and gid) that the sandbox runs as; None is our own.
        oldest: the first version that will do.
        module: what it must have installed.

    Raises:
        SandboxUnavailableError: if there is none that this user can start, or it is too old.
    """
    candidates = [python] if python is not None else list(dict.fromkeys((sys.executable, _SYSTEM_PYTHON)))
    reasons = []
    for candidate in candidates:
        try:
            return _describe(candidate, user, oldest, module)
        except _UnusableInterpreterError as error:
            reasons.append(f"{candidate} {error}")
    raise SandboxUnavailableError(
        f"the sandbox has no Python: {'; '.join(reasons)}. Name one that is >= {oldest[0]}.{oldest[1]} "
        f"and that every user may read{f', and has {module}' if module else ''}, with --sandbox_python, for example "
        "--sandbox_python /usr/bin/python3"
    )


class _UnusableInterpreterError(Exception):
    pass


def _describe(path: str, user: int | None, oldest: tuple[int, int], module: str | None) -> Interpreter:
    if not Path(path).is_absolute():
        raise _UnusableInterpreterError("is not an absolute path")
    output = _output_as_user([path, "-I", "-c", _DESCRIBE.format(module=module or "sys")], user=user)
    try:
        version, has_module, *paths = json.loads(output)
    except ValueError as error:
        raise _UnusableInterpreterError("is not a Python") from error
    if tuple(version) < oldest:
        raise _UnusableInterpreterError(
            f"is Python {version[0]}.{version[1]}, {oldest[0]}.{oldest[1]} or newer is needed"
        )
    if not has_module:
        raise _UnusableInterpreterError(f"has no {module}")
    return Interpreter(*paths)


def _output_as_user(command: Sequence[str], *, user: int | None) -> str:
    """Run our own one-liner in the interpreter, as the sandbox's user: what that user cannot read, fails here."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={},
            cwd="/",
            timeout=60,
            check=False,
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _UnusableInterpreterError(_why(error)) from error
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _UnusableInterpreterError(f"does not start ({last_line})")
    return done.stdout


def _why(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "is not readable for the user that the sandbox runs as"
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"does not start ({error})"
