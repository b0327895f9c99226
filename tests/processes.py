"""Processes that tests start and talk to."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def running_process(command: Sequence[str | Path], **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a process that does not outlive the test, however that ends; arguments as Popen's."""
    with subprocess.Popen(command, **how) as process:
        try:
            yield process
        finally:
            process.kill()
