"""Measures what the sandbox adds to a small program: `python scripts/bench_sandbox.py [RESULT.json]`.

In turns, in one run: `run("print(1+1)")`, the same in an open session, and the sandbox's interpreter alone (`python -I`).
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mistral_local.tools.sandbox import Sandbox

CODE = "print(1+1)"
CALLS = 100


def milliseconds(call: Callable[[], str]) -> float:
    """Time one call, which must print 2."""
    started = time.perf_counter()
    assert call() == "2\n"
    return (time.perf_counter() - started) * 1000


def main() -> None:
    """Measure, print, and write the figures if a file is named."""
    sandbox = Sandbox()
    where = sandbox.run("import sys; print(sys._base_executable, '%d.%d.%d' % sys.version_info[:3])").stdout.split()
    python, version = where

    def bare() -> str:
        return subprocess.run([python, "-I", "-c", CODE], capture_output=True, text=True, check=True).stdout

    with sandbox.session() as session:
        calls: dict[str, Callable[[], str]] = {
            "run": lambda: sandbox.run(CODE).stdout,
            "session": lambda: session.run(CODE).stdout,
            "python -I": bare,
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(CALLS):
            for name, call in calls.items():
                times[name].append(milliseconds(call))
    report = {
        "code": CODE,
        "calls": CALLS,
        "milliseconds": {
            name: {"median": round(statistics.median(values), 1), "p95": round(sorted(values)[CALLS * 95 // 100], 1)}
            for name, values in times.items()
        },
        "conditions": {
            "user": "root" if os.geteuid() == 0 else "an ordinary user",
            "interpreter": f"{python} {version}",
            "bubblewrap": subprocess.run(
                ["bwrap", "--version"], capture_output=True, text=True, check=True
            ).stdout.strip(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        },
    }
    text = json.dumps(report, indent=2)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
