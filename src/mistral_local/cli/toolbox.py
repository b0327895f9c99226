"""The tools of a session: what the model is told of them, and whether its calls are run here."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistral_local.cli.conversation import read_json
from mistral_local.config import SandboxBackend
from mistral_local.errors import ToolError, UsageError

if TYPE_CHECKING:
    from mistral_local.tools.registry import ToolRegistry
    from mistral_local.tools.tool import Tool


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Tools of a session.

    Attributes:
        definitions: as in the Mistral API.
        registry: runs the calls; None if they are only shown.
    """

    definitions: list[dict[str, Any]]
    registry: ToolRegistry | None = None


def open_toolbox(
    file: str | None, *, python: bool, sandbox: SandboxBackend = "bubblewrap", sandbox_python: str | None = None
) -> Toolbox | None:
    """Read the tools that the flags name; None if there are none.

    Args:
        file: FILE.py with @tool functions, which are run, or a JSON file with definitions, which are only shown.
        python: whether exec_python is one of them.
        sandbox: where exec_python runs what the model writes.
        sandbox_python: the interpreter in there.

    Raises:
        UsageError: if the file holds no tools, or there is no sandbox for exec_python.
    """
    if not python and (sandbox != "bubblewrap" or sandbox_python is not None):
        raise UsageError("--sandbox and --sandbox_python need --python")
    if file is None and not python:
        return None
    if file is not None and not file.endswith(".py"):
        if python:
            raise UsageError("--python cannot go with --tools FILE.json: calls of those tools are not run")
        return Toolbox(read_definitions(Path(file)))
    from mistral_local.tools.exec_python import check_sandbox, make_exec_python
    from mistral_local.tools.registry import ToolRegistry
    from mistral_local.tools.sandbox import Sandbox

    tools = read_functions(Path(file)) if file is not None else []
    if python:
        box = Sandbox(backend=sandbox, python=sandbox_python)
        check_sandbox(box)
        tools.append(make_exec_python(box=box))
    try:
        registry = ToolRegistry(tools)
    except ToolError as error:
        raise UsageError(str(error)) from error
    return Toolbox(registry.definitions(), registry)


def read_definitions(path: Path) -> list[dict[str, Any]]:
    """Read a list of tools as the Mistral API takes them.

    Raises:
        UsageError: if the file holds none; the message says which entry is wrong.
    """
    tools = read_json(path)
    if not isinstance(tools, list) or not tools:
        raise UsageError(f"{path}: expected a list of tools")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UsageError(f'{path}: tool {index} is not {{"type": "function", "function": {{"name": ...}}}}')
    return tools


def read_functions(path: Path) -> list[Tool]:
    """Run a Python file and return its @tool functions in order; its folder is where it imports from.

    Raises:
        UsageError: if it cannot be run or has no tools.
    """
    from mistral_local.tools.tool import Tool

    if not path.is_file():
        raise UsageError(f"cannot read {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"mistral_local_tools_{path.stem}", path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None, "a file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # type hints of its functions are looked up there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    tools = [value for value in vars(module).values() if isinstance(value, Tool)]
    if not tools:
        raise UsageError(f"{path} has no tools; from mistral_local import tool, and put @tool on a function")
    return list({id(tool): tool for tool in tools}.values())
