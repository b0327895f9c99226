"""POST /v1/execute and /v1/execute-function: programs in the sandbox, for the client of Riza."""

from __future__ import annotations

import json
import secrets
import uuid
from typing import Any

from fastapi import APIRouter, Request

from mistral_local.server.body import JsonRoute
from mistral_local.server.errors import ApiError
from mistral_local.server.generation import while_connected
from mistral_local.server.openapi import answers
from mistral_local.server.schemas.answers import Execution, FunctionExecution
from mistral_local.server.schemas.execute import ExecuteBody, ExecuteFunctionBody
from mistral_local.server.state import ServerState, State
from mistral_local.tools.sandbox import ExecResult, arun

router = APIRouter(route_class=JsonRoute)

CALL = """\
import json as _json
with open({code!r}, encoding="utf-8") as _file:
    exec(compile(_file.read(), "function.py", "exec"), _scope := {{"__name__": "function"}})
with open({given!r}, encoding="utf-8") as _file:
    _given = _json.load(_file)
_output = _scope["execute"](_given)
try:
    _output = _json.dumps({{"output": _output}}, allow_nan=False)
except (TypeError, ValueError, RecursionError):
    _output = ""
with open({result!r}, "w", encoding="utf-8") as _file:
    _file.write(_output)
"""
"""The program around a function; the names of its files are drawn anew for every call."""


@router.post("/v1/execute", responses=answers(Execution))
async def execute(body: ExecuteBody, request: Request, state: State) -> dict[str, Any]:
    """Run a Python program without network, in a sandbox of its own."""
    result = await _run(body, body.code, {}, request, state)
    return _execution(result)


@router.post("/v1/execute-function", responses=answers(FunctionExecution))
async def execute_function(body: ExecuteFunctionBody, request: Request, state: State) -> dict[str, Any]:
    """Run the function `execute` that a Python program defines, and return what it returns."""
    names = {name: f"{name}_{secrets.token_hex(8)}" for name in ("code", "given", "result")}
    files = {names["code"]: body.code.encode(), names["given"]: json.dumps(body.input).encode()}
    result = await _run(body, CALL.format(**names), files, request, state)
    written = result.files.get(names["result"])
    output, status = None, "error"
    if written is not None and result.exit_code == 0:
        output, status = _output(written)
    return {"execution": _execution(result), "output": output, "output_status": status}


async def _run(
    body: ExecuteBody, code: str, files: dict[str, bytes], request: Request, state: ServerState
) -> ExecResult:
    """Run a program; it ends when its client hangs up.

    Raises:
        ApiError: 403, if the server was not started to run programs.
    """
    if not state.settings.executes:
        raise ApiError(403, "running programs is switched off; mistral-serve --execute switches it on")
    job = body.job(state.settings.limits)
    return await while_connected(request, arun(code, **{**job, "files": job["files"] | files}))


def _execution(result: ExecResult) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "duration": round(result.duration * 1000),
        "exit_code": result.exit_code,
        "stdout": result.stdout,
        "stderr": result.stderr,
    }


def _output(written: bytes) -> tuple[Any, str]:
    """What the function returned; the program may have written anything to its file."""
    try:
        return json.loads(written)["output"], "valid"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, "json_serialization_error"
