"""Runs inside the WebAssembly interpreter, around the program.  Its source is the program that the worker executes.

Only this file is there, so it imports nothing of mistral_local; what it is given is appended to it as a literal.
"""

import base64
import io
import linecache
import os
import sys
import traceback
import types
from typing import Any

WORK = "/data"  # the only place that can be written


def run_guest(job: dict[str, Any]) -> dict[str, Any]:
    """Run the program of a job; return its exit status and the files that it left."""
    os.chdir(WORK)
    os.environ.update(job["env"])
    for name, content in job["files"].items():
        with open(name, "wb") as file:
            file.write(base64.b64decode(content))
    sys.stdin = io.TextIOWrapper(io.BytesIO(base64.b64decode(job["stdin"])), encoding="utf-8")
    sys.argv = ["main.py"]
    status = _run(job["code"])
    return {"exit_code": status, "files": _files(job["max_bytes"], job["max_files"])}


def _run(code: str) -> int:
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    lines = [f"{line}\n" for line in code.split("\n")]
    linecache.cache["main.py"] = (len(code), None, lines, "main.py")
    try:
        exec(compile(code, "main.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:  # noqa: BLE001  whatever the program raises is its traceback
        own_frame = error.__traceback__
        traceback.print_exception(error.with_traceback(own_frame and own_frame.tb_next))
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _files(max_bytes: int, max_files: int) -> dict[str, str]:
    files = {}
    for name in sorted(os.listdir(WORK))[:max_files]:
        path = f"{WORK}/{name}"
        if os.path.isfile(path) and os.path.getsize(path) <= max_bytes:
            with open(path, "rb") as file:
                content = file.read()
            max_bytes -= len(content)
            files[name] = base64.b64encode(content).decode()
    return files
