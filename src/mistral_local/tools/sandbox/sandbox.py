"""The sandbox that programs are handed to."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from mistral_local.config import SandboxBackend
from mistral_local.errors import RequestError, SandboxError, UsageError
from mistral_local.tools.sandbox.cancel import aawait_or_stop
from mistral_local.tools.sandbox.job import Job
from mistral_local.tools.sandbox.limits import MIB, Limits
from mistral_local.tools.sandbox.native import NativeBackend
from mistral_local.tools.sandbox.result import ExecResult
from mistral_local.tools.sandbox.session import Session
from mistral_local.tools.sandbox.wasm import WasmBackend

_BACKENDS: dict[SandboxBackend, Callable[[str | None], NativeBackend | WasmBackend]] = {
    "bubblewrap": NativeBackend,
    "wasm": WasmBackend,
}


class Sandbox:
    """Runs programs that nobody has read, on this machine, without harm to it.

        result = Sandbox().run("print(1 + 1)")
        assert result.stdout == "2\\n"

    Nothing starts before the first program; that one proves first that the sandbox holds here.

    Args:
        backend: bubblewrap (Linux), or wasm (a WebAssembly interpreter; slower, and not all of Python).  There is no
            other: where the backend cannot be, nothing is run.
        python: path of the interpreter inside, >= 3.11; None takes the running one, or /usr/bin/python3 if the
            sandbox's user may not read that.  For wasm the interpreter that has pyeryx, >= 3.12.
        max_parallel: programs that run at the same time; more wait.  None is one per core.
        max_sessions: sessions that hold memory at the same time; more are refused.
    """

    def __init__(
        self,
        *,
        backend: SandboxBackend = "bubblewrap",
        python: str | None = None,
        max_parallel: int | None = None,
        max_sessions: int = 8,
    ) -> None:
        num_parallel = max_parallel if max_parallel is not None else os.cpu_count() or 1
        if num_parallel < 1:
            raise UsageError(f"max_parallel: expected at least 1, got {max_parallel}")
        if max_sessions < 0:
            raise UsageError(f"max_sessions: expected at least 0, got {max_sessions}")
        if backend not in _BACKENDS:
            raise UsageError(f"--sandbox: expected {' or '.join(_BACKENDS)}, got {backend!r}")
        self._backend = _BACKENDS[backend](python)
        self._places = threading.BoundedSemaphore(num_parallel)
        self._sessions = threading.BoundedSemaphore(max_sessions)
        self._threads = ThreadPoolExecutor(num_parallel, thread_name_prefix="mistral_local sandbox")

    def run(
        self,
        code: str,
        *,
        timeout: float = 30,
        memory_mb: int = 512,
        max_output: int = MIB,
        disk_mb: int = 64,
        pids: int = 32,
        stdin: str | bytes | None = None,
        files: Mapping[str, bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ExecResult:
        """Run a Python program in a sandbox of its own; whatever it does wrong is in the result.

        Args:
            code: its source.
            timeout: seconds of wall-clock time, starting the sandbox (some 50 ms) included.
            memory_mb: MiB of address space; disk_mb comes on top.
            max_output: bytes of stdout, and as many of stderr; a program that writes more is stopped.
            disk_mb: MiB of files in its working directory, which is in memory.
            pids: threads; child processes cannot be started at all.
            stdin: its standard input.
            files: files in its working directory at the start, by plain name.
            env: environment variables; it sees none of ours.

        Raises:
            RequestError: if an argument is out of range.
            SandboxUnavailableError: if there is no sandbox on this machine.  Nothing was run.
            SandboxError: if the sandbox fails.
        """
        limits = Limits(timeout=timeout, memory_mb=memory_mb, max_output=max_output, disk_mb=disk_mb, pids=pids)
        return self._run(Job(code=code, limits=limits, stdin=stdin, files=files or {}, env=env or {}))

    async def arun(
        self,
        code: str,
        *,
        timeout: float = 30,
        memory_mb: int = 512,
        max_output: int = MIB,
        disk_mb: int = 64,
        pids: int = 32,
        stdin: str | bytes | None = None,
        files: Mapping[str, bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> ExecResult:
        """`run` for an event loop; cancelling it kills the program and waits for its end."""
        limits = Limits(timeout=timeout, memory_mb=memory_mb, max_output=max_output, disk_mb=disk_mb, pids=pids)
        job = Job(code=code, limits=limits, stdin=stdin, files=files or {}, env=env or {})
        return await aawait_or_stop(lambda cancel_fd: self._threads.submit(self._run, job, cancel_fd=cancel_fd))

    def session(
        self,
        *,
        idle_timeout: float = 600,
        timeout: float = 30,
        memory_mb: int = 512,
        max_output: int = MIB,
        disk_mb: int = 64,
        pids: int = 32,
        env: Mapping[str, str] | None = None,
    ) -> Session:
        """Open a session: an interpreter that keeps its state between programs.  Close it, or use it as a context.

        Args:
            idle_timeout: after so many seconds without a program the interpreter ends, and its state with it.
            timeout, max_output: of each program.
            memory_mb, disk_mb, pids, env: of all of them together; see `run`.

        Raises:
            RequestError: if an argument is out of range.
            UsageError: with the wasm backend, which has no sessions.
        """
        if not 0 < idle_timeout < math.inf:
            raise RequestError(f"idle_timeout: expected seconds above 0, got {idle_timeout}")
        if not isinstance(self._backend, NativeBackend):
            raise UsageError("sessions need the bubblewrap backend")
        limits = Limits(timeout=timeout, memory_mb=memory_mb, max_output=max_output, disk_mb=disk_mb, pids=pids)
        return Session(
            Job(code="", limits=limits, env=env or {}),
            host=self._backend.host,
            idle_timeout=idle_timeout,
            place=self._places,
            claim=self._claim_session,
        )

    @contextmanager
    def _claim_session(self) -> Iterator[None]:
        if not self._sessions.acquire(blocking=False):
            raise SandboxError("too many sandbox sessions have a living interpreter; close one, or let one fall idle")
        try:
            yield
        finally:
            self._sessions.release()

    def _run(self, job: Job, *, cancel_fd: int | None = None) -> ExecResult:
        with self._places:
            return self._backend.run(job, cancel_fd=cancel_fd)
