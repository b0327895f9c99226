"""The default backend: each program in a bubblewrap sandbox of its own."""

import platform
import sys
import threading
import time

from mistral_local.errors import SandboxError, SandboxUnavailableError
from mistral_local.tools.sandbox import seccomp
from mistral_local.tools.sandbox.box import Box, Event, Host
from mistral_local.tools.sandbox.bubblewrap import find_bubblewrap
from mistral_local.tools.sandbox.diagnosis import explain_failure
from mistral_local.tools.sandbox.interpreter import find_interpreter
from mistral_local.tools.sandbox.job import Job
from mistral_local.tools.sandbox.limits import MIB
from mistral_local.tools.sandbox.probe import Probe
from mistral_local.tools.sandbox.result import KILLED_EXIT_CODE, TIMEOUT_EXIT_CODE, ExecResult, with_reason
from mistral_local.tools.sandbox.user import sandbox_user
from mistral_local.tools.sandbox.work_folder import read_files


class NativeBackend:
    """Runs programs in bubblewrap; the first use proves that the sandbox can be built here and holds.

    Args:
        python: path of the interpreter inside; None takes the running one, or the system's if that is unreadable.
    """

    def __init__(self, python: str | None = None) -> None:
        self._python = python
        self._host: Host | None = None
        self._lock = threading.Lock()

    def run(self, job: Job, *, cancel_fd: int | None = None) -> ExecResult:
        """Run one program to its end, its deadline or its cancellation.

        Raises:
            SandboxUnavailableError: if there is no sandbox here.
            SandboxError: if the sandbox fails, or cancel_fd became readable.
        """
        return run_once(self.host(), job, cancel_fd=cancel_fd)

    def host(self) -> Host:
        """What sandboxes are built with here, probed at the first use.  A failure is not remembered: it may be mended."""
        with self._lock:
            if self._host is None:
                host = _find_host(self._python)
                _probe(host)
                self._host = host
            return self._host


def run_once(host: Host, job: Job, *, cancel_fd: int | None = None) -> ExecResult:
    """Build a sandbox, run the program in it and take the sandbox down again."""
    started = time.monotonic()
    with Box(host, job) as box:
        event = Event.READY
        while event is Event.READY:  # the program starts then; nothing to do for us
            event = box.wait(started + job.limits.timeout, cancel_fd=cancel_fd)
        box.end()
        if event is Event.CANCELLED:
            raise SandboxError("the run was cancelled")
        return read_result(box, event, job, started)


def read_result(box: Box, event: Event, job: Job, started: float) -> ExecResult:
    """What the program left, once the sandbox has ended.

    Raises:
        SandboxError: if the program was never started.
    """
    limits = job.limits
    exit_code, reason = KILLED_EXIT_CODE, ""
    if event is Event.DEADLINE:
        exit_code, reason = TIMEOUT_EXIT_CODE, f"stopped after {limits.timeout:g} s"
    elif box.is_overflown:
        reason = f"stopped: it wrote more than {limits.max_output} bytes"
    if event is Event.ENDED:
        if box.exit_code is None or box.work_folder is None:
            raise SandboxError(explain_failure(box.stderr.text, python=box.python))
        exit_code = box.exit_code
    files: dict[str, bytes] = {}
    left_out: tuple[str, ...] = ()
    if box.work_folder is not None:
        files, left_out = read_files(box.work_folder, job.files, max_bytes=limits.disk_mb * MIB)
    return ExecResult(
        stdout=box.stdout.text,
        stderr=with_reason(box.stderr.text, reason),
        exit_code=exit_code,
        timed_out=event is Event.DEADLINE,
        truncated=box.is_overflown,
        duration=time.monotonic() - started,
        files=files,
        files_left_out=left_out,
    )


def _find_host(python: str | None) -> Host:
    if sys.platform != "linux":
        raise SandboxUnavailableError(f"bubblewrap needs Linux, this is {sys.platform}; try --sandbox wasm")
    machine = platform.machine()
    if machine not in seccomp.machines():
        raise SandboxUnavailableError(
            f"the system call filter knows {' and '.join(seccomp.machines())}, this is {machine}; try --sandbox wasm"
        )
    user = sandbox_user()
    bwrap = find_bubblewrap()
    return Host(bwrap, find_interpreter(python, user=user), user, seccomp.filter_program(machine))


def _probe(host: Host) -> None:
    """Run a program that tries the walls, on the same road as every other."""
    probe = Probe()
    try:
        result = run_once(host, probe.job)
    except OSError as error:
        raise SandboxUnavailableError(f"bubblewrap cannot be started as user {host.user}: {error}") from error
    except SandboxError as error:
        raise SandboxUnavailableError(str(error)) from error
    probe.check(result)
