"""The sandbox that programs are handed to."""

import asyncio
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from mistral_local.errors import UsageError
from mistral_local.tools.sandbox.job import Job
from mistral_local.tools.sandbox.limits import MIB, Limits
from mistral_local.tools.sandbox.native import NativeBackend
from mistral_local.tools.sandbox.result import ExecResult


class Sandbox:
    """Runs programs that nobody has read, on this machine, without harm to it.

        result = Sandbox().run("print(1 + 1)")
        assert result.stdout == "2\\n"

    Nothing starts before the first program; that one proves first that the sandbox holds here.

    Args:
        python: path of the interpreter inside, >= 3.11; None takes the running one, or /usr/bin/python3 if the
            sandbox's user may not read that.
        max_parallel: programs that run at the same time; more wait.  None is one per core.
    """

    def __init__(self, *, python: str | None = None, max_parallel: int | None = None) -> None:
        num_parallel = max_parallel if max_parallel is not None else os.cpu_count() or 1
        if num_parallel < 1:
            raise UsageError(f"max_parallel: expected at least 1, got {max_parallel}")
        self._backend = NativeBackend(python)
        self._places = threading.BoundedSemaphore(num_parallel)
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
        cancel_fd, cancel = os.pipe()
        running = self._threads.submit(self._run, job, cancel_fd=cancel_fd)
        running.add_done_callback(partial(_close, (cancel_fd, cancel)))
        ended = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if not running.cancel():
                os.write(cancel, b"x")
                await asyncio.wait([ended])
                ended.exception()  # it says that the run was cancelled
            raise

    def _run(self, job: Job, *, cancel_fd: int | None = None) -> ExecResult:
        with self._places:
            return self._backend.run(job, cancel_fd=cancel_fd)


def _close(descriptors: tuple[int, int], _: Future[ExecResult]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
