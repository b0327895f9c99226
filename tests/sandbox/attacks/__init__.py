"""Programs that try to get out of the sandbox, or to hurt the host from inside.

Each attack is a function.  Its source, behind `PREAMBLE`, is the program that is run: it may use what the preamble
defines and nothing else of its module.  It prints BEGIN first, and LEAK if it gets what it wants.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PREAMBLE = '''
import ctypes, os, socket, sys, threading, time
HOST = HOST_OF_THE_DRIVER
LIBC = ctypes.CDLL(None, use_errno=True)

def leak(what="it worked"):
    print("LEAK", what, flush=True)

def syscall(name, *arguments):
    """Make a system call by its number; OSError if it fails."""
    LIBC.syscall.restype = ctypes.c_long
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = LIBC.syscall(ctypes.c_long(HOST["numbers"][name]), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name + ": " + os.strerror(ctypes.get_errno()))
    return result
'''

EPILOGUE = """
print("BEGIN", flush=True)
try:
    {name}()
except (OSError, MemoryError, RuntimeError, ValueError) as error:
    print("REFUSED", type(error).__name__, error, flush=True)
"""


@dataclass(frozen=True)
class Attack:
    """An attack and how it is run.

    Attributes:
        name: of the function.
        source: of the function.
        arguments: of `run`, where the defaults would not do.
        without_sandbox: why an ordinary user without the sandbox may fail at it too; None means that he must succeed.
    """

    name: str
    source: str
    arguments: dict[str, Any] = field(default_factory=dict)
    without_sandbox: str | None = None

    def program(self) -> str:
        """The whole program; the driver puts its secrets and victims in the place of HOST_OF_THE_DRIVER."""
        return f"{PREAMBLE}\n{self.source}\n{EPILOGUE.format(name=self.name)}"


ATTACKS: list[Attack] = []


def attack(*, without_sandbox: str | None = None, **arguments: Any) -> Callable[[Callable[[], None]], None]:
    """Register a function as an attack."""

    def register(function: Callable[[], None]) -> None:
        source = inspect.getsource(function)
        source = source[source.index("def ") :]
        ATTACKS.append(Attack(function.__name__, source, arguments, without_sandbox))

    return register
