"""What a sandboxed program may use."""

import math
from dataclasses import dataclass

from mistral_local.errors import RequestError

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one program.

    Attributes:
        timeout: seconds of wall-clock time; of CPU time over all threads it gets twice as many.
        memory_mb: MiB of address space.
        max_output: bytes of stdout, and as many of stderr.
        disk_mb: MiB of files in the working directory, which is held in memory on top of memory_mb.
        pids: threads, the main one included; there are no child processes.

    Raises:
        RequestError: if a limit is out of range.
    """

    timeout: float = 30
    memory_mb: int = 512
    max_output: int = MIB
    disk_mb: int = 64
    pids: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise RequestError(f"timeout: expected seconds above 0, got {self.timeout}")
        for name, least in (("memory_mb", 64), ("max_output", 0), ("disk_mb", 1), ("pids", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise RequestError(f"{name}: expected an integer of at least {least}, got {value!r}")

    @property
    def cpu_seconds(self) -> int:
        """CPU time of one program, in case nobody watches the wall clock."""
        return 2 * math.ceil(self.timeout) + 1
