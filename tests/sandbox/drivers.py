"""Runs programs in the sandbox of other users: the test's side of driver.py."""

import json
import subprocess
from pathlib import Path
from typing import Any


class Driver:
    """A driver.py that runs as some user, with some interpreter, until it is closed."""

    def __init__(self, python: str, user: int | None, source: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [python, "-B", str(source / "driver.py"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
            cwd="/",
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )

    def run(self, program: str, *, bare: bool = False, **arguments: Any) -> dict[str, Any]:
        job = {"program": program, "arguments": arguments, "bare": bare}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the driver has ended"
        return dict(json.loads(answer))

    def close(self) -> None:
        self._process.communicate(timeout=30)
