"""The process that holds the WebAssembly interpreter: python -I -B -c SOURCE REPORT_FD, with the job as JSON on stdin.

It runs in an interpreter that has pyeryx and imports nothing of mistral_local.  What the program prints goes to stdout
and stderr; what it returns goes to REPORT_FD as JSON.  A fault of the interpreter ends this process and no other.
"""

import json
import os
import re
import resource
import sys
from collections.abc import Callable
from typing import Any

import eryx

_EXIT_STATUS = re.compile(r"Exited with i32 exit status (\d+)")
_TRAP = 134  # as a native interpreter that aborts


def main() -> None:
    """Run one job and end with the status of its program."""
    job = json.load(sys.stdin)
    # If the host dies, nobody else stops a program that loops.
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_seconds"], job["cpu_seconds"]))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the program's stdin is in its job
    limits = eryx.ResourceLimits(
        execution_timeout_ms=None,  # the host watches the clock
        max_memory_bytes=job["memory_bytes"],
        max_vfs_bytes=job["disk_bytes"],
    )
    sandbox = eryx.Sandbox(
        resource_limits=limits, on_stdout=_writer(1), on_stderr=_writer(2), result_variable="outcome"
    )
    try:
        outcome = sandbox.execute(job["program"]).result
    except eryx.EryxError as error:
        outcome = {"exit_code": _status_of(str(error))}
    with open(int(sys.argv[1]), "w", encoding="utf-8") as report:
        json.dump(outcome, report)


def _writer(fd: int) -> Callable[[bytes], Any]:
    def write(chunk: bytes) -> None:
        while chunk:
            chunk = chunk[os.write(fd, chunk) :]

    return write


def _status_of(message: str) -> int:
    found = _EXIT_STATUS.search(message)
    return int(found[1]) if found else _TRAP


if __name__ == "__main__":
    main()
