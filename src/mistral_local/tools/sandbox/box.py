"""One running sandbox: a bubblewrap process, the pipes that lead into it, and its certain end."""

import json
import os
import selectors
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from mistral_local.errors import SandboxError
from mistral_local.tools.sandbox import bubblewrap
from mistral_local.tools.sandbox.descriptors import Inherited
from mistral_local.tools.sandbox.interpreter import Interpreter
from mistral_local.tools.sandbox.job import Job
from mistral_local.tools.sandbox.limits import MIB
from mistral_local.tools.sandbox.outlet import Outlet

_SECONDS_TO_DIE = 10.0
_MAX_STATUS = 1 << 16
_REPLY_BYTES = 4


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine builds sandboxes with.

    Attributes:
        bwrap: path of bubblewrap.
        interpreter: the Python inside.
        user: uid and gid that bubblewrap is started as; None is our own.
        filter_program: the seccomp filter for this machine.
    """

    bwrap: str
    interpreter: Interpreter
    user: int | None
    filter_program: bytes


class Event(Enum):
    """Why `Box.wait` came back."""

    READY = auto()  # the limits are set and the working directory has arrived
    REPLY = auto()  # a session has run a cell
    ENDED = auto()  # the program has ended
    DEADLINE = auto()
    OVERFLOW = auto()  # it wrote more than it may
    CANCELLED = auto()


class Box:
    """A sandbox from its start to its end; leaving the context ends it, whatever state it is in.

    It must be left on the thread that entered it, and that thread must live as long: the kernel binds the life of the
    sandbox to the thread that started it.

    Attributes:
        stdout, stderr: what the program writes.
        work_folder: descriptor of the sandbox's working directory, or None until READY.
        reply: the bytes of a session's reply.
    """

    def __init__(self, host: Host, job: Job, *, is_session: bool = False, cpu_seconds: int | None = None) -> None:
        self.reply = bytearray()
        self.work_folder: int | None = None
        self._host, self._job, self._limits = host, job, job.limits
        self._mode = "session" if is_session else "once"
        self._cpu_seconds = cpu_seconds or job.limits.cpu_seconds
        self._stack = ExitStack()
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._selector)
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.end()
        finally:
            self._stack.close()

    def _start(self) -> None:
        with Inherited() as theirs:
            our_stdout, stdout = theirs.pipe(self._stack)
            our_stderr, stderr = theirs.pipe(self._stack)
            our_status, status = theirs.pipe(self._stack)
            self._alive, alive = theirs.pipe(self._stack)
            self._control, control = theirs.socket(self._stack)
            options = bubblewrap.arguments(
                self._host.interpreter,
                disk_bytes=self._disk_bytes,
                env=self._job.env,
                contents={"/run/runner.py": theirs.file(_runner()), "/run/main.py": theirs.file(self._job.source)},
                files={name: theirs.file(content) for name, content in self._job.files.items()},
                filter_fd=theirs.file(self._host.filter_program),
                status_fd=status,
                alive_fd=alive,
            )
            # Through a descriptor, where other users of the machine do not see them.
            options_fd = theirs.file("\0".join(options).encode("utf-8", "surrogateescape"))
            self._process = subprocess.Popen(
                [self._host.bwrap, "--args", str(options_fd), "--", *self._runner_command(control)],
                stdin=theirs.file(self._job.stdin_bytes),
                stdout=stdout,
                stderr=stderr,
                pass_fds=theirs.fds,
                env={},
                cwd="/",
                start_new_session=True,
                user=self._host.user,
                group=self._host.user,
                extra_groups=[] if self._host.user is not None else None,
            )
        self.stdout = Outlet(our_stdout, limit=self._limits.max_output)
        self.stderr = Outlet(our_stderr, limit=self._limits.max_output)
        self._status = Outlet(our_status, limit=_MAX_STATUS)
        for outlet in (self.stdout, self.stderr, self._status):
            self._selector.register(outlet.fd, selectors.EVENT_READ, outlet)
        self._selector.register(self._control, selectors.EVENT_READ)

    @property
    def python(self) -> str:
        """The interpreter inside."""
        return self._host.interpreter.executable

    @property
    def _disk_bytes(self) -> int:
        return self._limits.disk_mb * MIB

    def _runner_command(self, control: int) -> list[str]:
        numbers = (control, self._limits.memory_mb * MIB, self._cpu_seconds, self._limits.pids, self._disk_bytes)
        python = [self._host.interpreter.executable, "-I", "-B", "-X", "utf8"]
        return [*python, "/run/runner.py", *map(str, numbers), self._mode]

    def wait(self, deadline: float, *, cancel_fd: int | None = None) -> Event:
        """Read what the sandbox writes until something happens.

        Args:
            deadline: on the clock of `time.monotonic`.
            cancel_fd: a descriptor that becomes readable when the run is to stop.
        """
        if cancel_fd is None:
            return self._wait(deadline, None)
        self._selector.register(cancel_fd, selectors.EVENT_READ)
        try:
            return self._wait(deadline, cancel_fd)
        finally:
            self._selector.unregister(cancel_fd)

    def _wait(self, deadline: float, cancel_fd: int | None) -> Event:
        while (seconds := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(seconds):
                if key.fd == cancel_fd:
                    return Event.CANCELLED
                event = self._read_control() if key.data is None else self._read(key.data)
                if event is not None:
                    return event
        return Event.DEADLINE

    def _read(self, outlet: Outlet) -> Event | None:
        outlet.read()
        if outlet.is_overflown:
            return Event.OVERFLOW
        if outlet.is_open:
            return None
        self._selector.unregister(outlet.fd)
        return Event.ENDED if outlet is self._status else None

    @property
    def is_overflown(self) -> bool:
        """Whether the program wrote more than it may."""
        return self.stdout.is_overflown or self.stderr.is_overflown

    def _read_control(self) -> Event | None:
        try:
            if self.work_folder is None:
                message, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            else:  # the program may write here, and send no descriptors: recv drops them
                message, descriptors = self._control.recv(_REPLY_BYTES - len(self.reply)), []
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._selector.unregister(self._control)
            return None
        if self.work_folder is None:
            (self.work_folder,) = descriptors
            self._stack.callback(os.close, self.work_folder)
            return Event.READY
        self.reply += message
        return Event.REPLY if len(self.reply) == _REPLY_BYTES else None

    def send(self, message: bytes, deadline: float) -> None:
        """Send a cell to a session.  If nobody takes it, `wait` tells why: the session has ended, or the deadline came."""
        self._control.settimeout(max(0.001, deadline - time.monotonic()))
        with suppress(OSError):
            self._control.sendall(message)

    def drain(self) -> None:
        """Read what the program has written already."""
        self.stdout.drain()
        self.stderr.drain()

    def forget(self) -> None:
        """Be ready for the next cell."""
        for buffer in (self.stdout.content, self.stderr.content, self.reply):
            buffer.clear()

    def end(self) -> None:
        """Kill what still runs, wait until all of it is gone, and read what is left in the pipes.

        Raises:
            SandboxError: if something in the sandbox does not die.
        """
        deadline = time.monotonic() + _SECONDS_TO_DIE
        if self._process.returncode is None:
            # After ENDED bubblewrap is about to exit with the program's status; everywhere else it must not live on.
            if self._status.is_open:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        with selectors.DefaultSelector() as selector:
            selector.register(self._alive, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise SandboxError(f"a sandboxed program did not die within {_SECONDS_TO_DIE:g} s")
        self.drain()

    @property
    def exit_code(self) -> int | None:
        """The program's status, 128 + n for signal n; None if it did not end by itself."""
        for line in self._status.content.splitlines():
            if "exit-code" in (report := json.loads(line)):
                return int(report["exit-code"])
        return None


@cache
def _runner() -> bytes:
    return Path(__file__).with_name("runner.py").read_bytes()
