"""The second backend: a WebAssembly CPython (pyeryx) in a worker process, for where bubblewrap cannot be."""

import base64
import binascii
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from mistral_local.errors import SandboxError, SandboxUnavailableError
from mistral_local.tools.sandbox.descriptors import Inherited
from mistral_local.tools.sandbox.interpreter import find_interpreter
from mistral_local.tools.sandbox.job import Job
from mistral_local.tools.sandbox.limits import MIB
from mistral_local.tools.sandbox.outlet import Outlet
from mistral_local.tools.sandbox.result import KILLED_EXIT_CODE, TIMEOUT_EXIT_CODE, ExecResult, with_reason
from mistral_local.tools.sandbox.user import sandbox_user
from mistral_local.tools.sandbox.work_folder import MAX_FILES, is_flat_name

_OLDEST = (3, 12)  # pyeryx has no wheels for older ones
_FOLDER = Path(__file__).parent


class WasmBackend:
    """Runs programs in WebAssembly, each in a worker process of its own; docs/sandbox.md says what does not work there.

    Args:
        python: path of the interpreter that has pyeryx; None takes the running one.
    """

    def __init__(self, python: str | None = None) -> None:
        self._python = python
        self._place: _Place | None = None
        self._lock = threading.Lock()

    def run(self, job: Job, *, cancel_fd: int | None = None) -> ExecResult:
        """Run one program to its end, its deadline or its cancellation.

        Raises:
            SandboxUnavailableError: if there is no pyeryx.
            SandboxError: if the worker fails, or cancel_fd became readable.
        """
        with self._lock:
            if self._place is None:
                self._place = _Place(self._python)
        with _Worker(self._place, job) as worker:
            return worker.run(cancel_fd)


class _Place:
    """Where workers run, and as whom.

    pyeryx unpacks its interpreter, as machine code, into the folder for temporary files under a name that never changes
    and runs what it finds there.  In /tmp any user of the machine could have put it there; so we give it a folder that
    only we can write.  It goes with the backend.
    """

    def __init__(self, python: str | None) -> None:
        self.user = sandbox_user()
        try:
            self.interpreter = find_interpreter(python, user=self.user, oldest=_OLDEST, module="eryx")
        except SandboxUnavailableError as error:
            raise SandboxUnavailableError(
                f"{error}. pip install 'mistral_local[wasm]' installs pyeryx there"
            ) from error
        folder = tempfile.mkdtemp(prefix="mistral_local-wasm-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.environment = {**self.interpreter.environment, "TMPDIR": folder}
        unpack = [self.interpreter.executable, "-I", "-B", "-c", "import eryx; eryx.Sandbox()"]
        done = subprocess.run(unpack, env=self.environment, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode:
            last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SandboxUnavailableError(f"pyeryx does not start: {last_line}")
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # root's workers run as another user


class _Worker(ExitStack):
    """One worker process from its start to its end."""

    def __init__(self, place: _Place, job: Job) -> None:
        super().__init__()
        self._job, self._started = job, time.monotonic()
        disk_bytes = job.limits.disk_mb * MIB
        with Inherited() as theirs, tempfile.TemporaryFile() as request:
            our_stdout, stdout = theirs.pipe(self)
            our_stderr, stderr = theirs.pipe(self)
            our_report, report = theirs.pipe(self)
            request.write(_request(job))
            request.seek(0)
            self._process = subprocess.Popen(
                [
                    place.interpreter.executable,
                    "-I",
                    "-B",
                    "-c",
                    (_FOLDER / "wasm_worker.py").read_text(encoding="utf-8"),
                    str(report),
                ],
                stdin=request,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[report],
                env=place.environment,
                cwd="/",
                start_new_session=True,
                user=place.user,
                group=place.user,
                extra_groups=[] if place.user is not None else None,
            )
        self._stdout = Outlet(our_stdout, limit=job.limits.max_output)
        self._stderr = Outlet(our_stderr, limit=job.limits.max_output)
        self._report = Outlet(our_report, limit=2 * disk_bytes + MIB)  # files come as base64
        self.callback(self._kill)

    def run(self, cancel_fd: int | None) -> ExecResult:
        limits = self._job.limits
        if self._wait(self._started + limits.timeout, cancel_fd):
            raise SandboxError("the run was cancelled")
        is_timed_out = self._is_running and not self._is_overflown
        self._kill()
        exit_code, reason = KILLED_EXIT_CODE, ""
        files: dict[str, bytes] = {}
        if is_timed_out:
            exit_code, reason = TIMEOUT_EXIT_CODE, f"stopped after {limits.timeout:g} s"
        elif self._is_overflown:
            reason = f"stopped: it wrote more than {limits.max_output} bytes"
        else:
            exit_code, files = self._outcome()
        return ExecResult(
            stdout=self._stdout.text,
            stderr=with_reason(self._stderr.text, reason),
            exit_code=exit_code,
            timed_out=is_timed_out,
            truncated=self._is_overflown,
            duration=time.monotonic() - self._started,
            files={name: content for name, content in files.items() if self._job.files.get(name) != content},
        )

    def _wait(self, deadline: float, cancel_fd: int | None) -> bool:
        """Read until the worker has closed all pipes, is to be stopped, or was cancelled: then True."""
        with selectors.DefaultSelector() as selector:
            for outlet in (self._stdout, self._stderr, self._report):
                selector.register(outlet.fd, selectors.EVENT_READ, outlet)
            if cancel_fd is not None:
                selector.register(cancel_fd, selectors.EVENT_READ)
            while self._is_running and not self._is_overflown and (seconds := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(seconds):
                    if key.data is None:
                        return True
                    key.data.read()
                    if not key.data.is_open:
                        selector.unregister(key.fd)
        return False

    @property
    def _is_running(self) -> bool:
        return self._stdout.is_open or self._stderr.is_open or self._report.is_open

    @property
    def _is_overflown(self) -> bool:
        return any(outlet.is_overflown for outlet in (self._stdout, self._stderr, self._report))

    def _kill(self) -> None:
        if self._process.returncode is None:
            if self._is_running:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._stdout.drain()
            self._stderr.drain()

    def _outcome(self) -> tuple[int, dict[str, bytes]]:
        """The program's status and files, as the worker reports them."""
        status = self._process.returncode
        if status < 0:  # a fault of the interpreter, such as a stack that is too deep, ends the worker
            return 128 - status, {}
        try:
            outcome = json.loads(self._report.content)
        except ValueError as error:
            message = (self._stderr.text.strip().splitlines() or [f"exit code {status}"])[-1]
            raise SandboxError(f"the WebAssembly worker failed: {message}") from error
        return _read_outcome(outcome, self._job.limits.disk_mb * MIB)


def _request(job: Job) -> bytes:
    """What the worker reads: the guest's source with the job as a literal, and the limits."""
    guest_job = {
        "code": job.code,
        "stdin": base64.b64encode(job.stdin_bytes).decode(),
        "env": dict(job.env),
        "files": {name: base64.b64encode(content).decode() for name, content in job.files.items()},
        "max_bytes": job.limits.disk_mb * MIB,
        "max_files": MAX_FILES,
    }
    guest = (_FOLDER / "wasm_guest.py").read_text(encoding="utf-8")
    request = {
        "program": f"{guest}\n\noutcome = run_guest({guest_job!a})\n",
        "memory_bytes": job.limits.memory_mb * MIB,
        "disk_bytes": job.limits.disk_mb * MIB,
        "cpu_seconds": job.limits.cpu_seconds,
    }
    return json.dumps(request).encode()


def _read_outcome(outcome: Any, max_bytes: int) -> tuple[int, dict[str, bytes]]:
    """Check what came out of the guest: a program may have put anything in the place of its outcome."""
    if not isinstance(outcome, dict) or not isinstance(outcome.get("exit_code"), int):
        return 1, {}
    reported = outcome.get("files", {})
    files: dict[str, bytes] = {}
    for name, text in list(reported.items())[:MAX_FILES] if isinstance(reported, dict) else ():
        with suppress(binascii.Error, TypeError, ValueError):
            content = base64.b64decode(text, validate=True)
            if is_flat_name(name) and sum(map(len, files.values())) + len(content) <= max_bytes:
                files[name] = content
    return outcome["exit_code"] & 0xFF, files
