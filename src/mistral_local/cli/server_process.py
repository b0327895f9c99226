"""mistral-serve in a process of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mistral_local.errors import MistralLocalError

PROGRAM = "import sys; from mistral_local.cli.entry import serve; sys.exit(serve())"
READY = "ready at "
STOP_S = 10


@contextmanager
def serving_process(folder: Path, flags: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Serve a checkpoint on a free port, and stop afterwards.

    Returns:
        the address, the key, and the number of the process.

    Raises:
        MistralLocalError: if it does not start; its last line says why.
    """
    key = secrets.token_hex(16)
    command = [sys.executable, "-c", PROGRAM, str(folder), "--port=0", *flags]
    environment = {**os.environ, "MISTRAL_LOCAL_API_KEY": key}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = _wait_until_ready(process.stderr)
            # Its log is read, because a pipe that is full would stop it.
            threading.Thread(target=deque, args=(process.stderr, 0), daemon=True).start()
            yield address, key, process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_ready(log: IO[str]) -> str:
    """The address, once it is served."""
    last = ""
    for line in log:
        if READY in line:
            return line.partition(READY)[2].split()[0]
        last = line.strip() or last
    raise MistralLocalError(f"the server does not start: {last.removeprefix('Error: ')}")
