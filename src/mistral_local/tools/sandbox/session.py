"""A sandbox that lives on: variables and files of one program are there for the next."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from mistral_local.errors import RequestError, SandboxError
from mistral_local.tools.sandbox.box import Box, Event, Host
from mistral_local.tools.sandbox.cancel import aawait_or_stop, await_or_stop
from mistral_local.tools.sandbox.job import Job
from mistral_local.tools.sandbox.limits import MIB
from mistral_local.tools.sandbox.native import read_result
from mistral_local.tools.sandbox.result import ExecResult
from mistral_local.tools.sandbox.runner import NOT_RUN
from mistral_local.tools.sandbox.work_folder import read_files

ENDED = "the session has ended: its variables and files are gone"
_CPU_PROGRAMS = 20  # a session may use the CPU time of so many programs

Call = tuple[Job, "int | None", "Future[ExecResult]"]


class Session:
    """One interpreter for the programs of one conversation, started with the first of them.

    A program that ends by itself, also by an exception or `sys.exit`, leaves the state to the next.  One that is
    stopped (deadline, output) or kills the interpreter takes the state with it; stderr says so, and the next program
    finds a fresh interpreter.  So does one that comes after `idle_timeout` seconds without any.

    Made by `Sandbox.session`.
    """

    def __init__(
        self,
        template: Job,
        *,
        host: Callable[[], Host],
        idle_timeout: float,
        place: AbstractContextManager[object],
        claim: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._template, self._host, self._idle_timeout = template, host, idle_timeout
        self._place, self._claim = place, claim
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._is_closed = False
        self._living: _Living | None = None
        # The kernel binds a sandbox to the thread that started it, so the session has one of its own.
        self._thread = threading.Thread(target=self._work, name="mistral_local sandbox session", daemon=True)
        self._thread.start()

    def run(self, code: str, *, timeout: float | None = None, files: Mapping[str, bytes] | None = None) -> ExecResult:
        """Run a program where the last one left off.

        Args:
            code: its source.
            timeout: seconds of wall-clock time; None is the session's.
            files: files to put into the working directory first, over those of the same name.

        Returns:
            As from `Sandbox.run`; `files` are those that are new or changed since the last program.

        Raises:
            RequestError: if an argument is out of range.
            SandboxError: if the session is closed, too many are open, or the sandbox fails.
        """
        return await_or_stop(partial(self._post, self._job(code, timeout, files)))

    async def arun(
        self, code: str, *, timeout: float | None = None, files: Mapping[str, bytes] | None = None
    ) -> ExecResult:
        """`run` for an event loop; cancelling it kills the program, and the session's state with it."""
        return await aawait_or_stop(partial(self._post, self._job(code, timeout, files)))

    def close(self) -> None:
        """End the sandbox, after the program that runs."""
        if not self._is_closed:
            self._is_closed = True
            self._calls.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _job(self, code: str, timeout: float | None, files: Mapping[str, bytes] | None) -> Job:
        limits = self._template.limits
        return replace(
            self._template,
            code=code,
            limits=limits if timeout is None else replace(limits, timeout=timeout),
            files=files or {},
        )

    def _post(self, job: Job, cancel_fd: int) -> "Future[ExecResult]":
        if self._is_closed:
            raise SandboxError("the session is closed")
        running: Future[ExecResult] = Future()
        self._calls.put((job, cancel_fd, running))
        return running

    def _work(self) -> None:
        try:
            while (call := self._next_call()) is not None:
                job, cancel_fd, running = call
                if running.set_running_or_notify_cancel():
                    try:
                        result = self._run(job, cancel_fd)
                    except BaseException as error:  # noqa: BLE001  it belongs to whoever asked
                        running.set_exception(error)
                    else:
                        running.set_result(result)
        finally:
            self._end()

    def _next_call(self) -> Call | None:
        if self._living is not None:
            try:
                return self._calls.get(timeout=self._idle_timeout)
            except queue.Empty:
                self._end()
        return self._calls.get()

    def _run(self, job: Job, cancel_fd: int | None) -> ExecResult:
        with self._place:
            try:
                if self._living is None:
                    self._living = _Living(self._host(), self._template, self._claim)
                result = self._living.run(job, cancel_fd)
            except RequestError:  # before the program was started; the state is as it was
                raise
            except BaseException:
                self._end()
                raise
            if self._living.has_ended:
                self._end()
            return result

    def _end(self) -> None:
        if self._living is not None:
            living, self._living = self._living, None
            living.close()


class _Living:
    """An interpreter that is there, and what its working directory held last."""

    def __init__(self, host: Host, template: Job, claim: Callable[[], AbstractContextManager[object]]) -> None:
        self._known: dict[str, bytes] = {}
        self._stack = ExitStack()
        self._stack.enter_context(claim())
        self.has_ended = False
        try:
            cpu_seconds = _CPU_PROGRAMS * template.limits.cpu_seconds
            self._box = self._stack.enter_context(Box(host, template, is_session=True, cpu_seconds=cpu_seconds))
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        self._stack.close()

    def run(self, job: Job, cancel_fd: int | None) -> ExecResult:
        started = time.monotonic()
        event = self._try_to_run(job, started + job.limits.timeout, cancel_fd)
        if event is Event.CANCELLED:
            raise SandboxError("the run was cancelled")
        if event is Event.REPLY:
            self._box.drain()
            if int.from_bytes(self._box.reply, "big") == NOT_RUN:
                raise RequestError(f"files: {self._take_stderr()}")
            self._known |= job.files
            if not self._box.is_overflown:
                return self._result(job, started)
            event = Event.OVERFLOW
        self.has_ended = True
        self._box.end()
        job = replace(job, files=self._known)
        result = read_result(self._box, event, job, started)
        return replace(result, stderr=f"{result.stderr}[{ENDED}]\n")

    def _try_to_run(self, job: Job, deadline: float, cancel_fd: int | None) -> Event:
        if self._box.work_folder is None:
            event = self._box.wait(deadline, cancel_fd=cancel_fd)
            if event is not Event.READY:
                return event
        self._box.send(_cell(job), deadline)
        return self._box.wait(deadline, cancel_fd=cancel_fd)

    def _take_stderr(self) -> str:
        message = self._box.stderr.text.strip()
        self._box.forget()
        return message

    def _result(self, job: Job, started: float) -> ExecResult:
        box = self._box
        assert box.work_folder is not None
        exit_code = int.from_bytes(box.reply, "big") & 0xFF  # the program could have sent anything
        files, left_out = read_files(box.work_folder, self._known, max_bytes=job.limits.disk_mb * MIB)
        self._known |= files
        result = ExecResult(
            stdout=box.stdout.text,
            stderr=box.stderr.text,
            exit_code=exit_code,
            duration=time.monotonic() - started,
            files=files,
            files_left_out=left_out,
        )
        box.forget()
        return result


def _cell(job: Job) -> bytes:
    """A program as the runner reads it."""
    parts = [part for name, content in job.files.items() for part in (name.encode(), content)]
    framed = [_number(len(part)) + part for part in (*parts, job.source)]
    return _number(len(job.files)) + b"".join(framed)


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")
