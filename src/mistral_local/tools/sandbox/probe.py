"""The proof that a sandbox holds on this machine: a program that tries its walls before any other runs."""

import secrets

from mistral_local.errors import SandboxUnavailableError
from mistral_local.tools.sandbox.job import Job
from mistral_local.tools.sandbox.limits import Limits
from mistral_local.tools.sandbox.result import ExecResult

# Each line of its output is a wall that gave way, but for the last.
_TRY_THE_WALLS = """
import os, resource, socket

def can(action):
    try:
        action()
    except OSError:
        return False
    return True

def root_is_writable():
    os.close(os.open("/probe", os.O_CREAT | os.O_WRONLY))

if can(socket.socket): print("sockets are open")
if can(os.fork): print("processes can be started")
if can(root_is_writable): print("the root is writable")
if can(lambda: os.setuid(0)): print("the user can change")
if can(lambda: os.listdir("/proc")): print("/proc is there")
if os.getpid() > 10: print("the host's processes are in sight")
if os.path.exists("/etc/passwd"): print("the host's files are in sight")
if os.getuid() != 1000: print("the user is not the sandbox's")
if resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY: print("memory is not limited")
"""


class Probe:
    """A program whose answer is known."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(8)
        self.job = Job(code=f"{_TRY_THE_WALLS}\nprint({self._nonce!r})\n", limits=Limits(timeout=20))

    def check(self, result: ExecResult) -> None:
        """Accept the result only if every wall held.

        Raises:
            SandboxUnavailableError: naming what gave way.
        """
        if result.stdout == f"{self._nonce}\n" and result.exit_code == 0:
            return
        walls = [line for line in result.stdout.splitlines() if line != self._nonce]
        found = "; ".join(walls + result.stderr.strip().splitlines()[-1:]) or f"exit code {result.exit_code}"
        raise SandboxUnavailableError(f"the sandbox does not hold on this machine: {found}")
