"""What came out of a sandboxed program."""

from collections.abc import Mapping
from dataclasses import dataclass, field

TIMEOUT_EXIT_CODE = 124  # as timeout(1)
KILLED_EXIT_CODE = 137


@dataclass(frozen=True, slots=True)
class ExecResult:
    """The outcome of one program.

    Attributes:
        stdout, stderr: what it wrote, at most `max_output` bytes each; bytes that are not UTF-8 became U+FFFD.  If the
            sandbox stopped the program, the last line of stderr says why.
        exit_code: its exit status; 128 + n if signal n ended it; 124 if the deadline did.
        timed_out: whether it was stopped at its deadline.
        truncated: whether it was stopped for writing more than `max_output` bytes.
        duration: wall-clock seconds, the sandbox's own start and end included, waiting for a free place not.
        files: new or changed regular files that it left in its working directory, by name.
        files_left_out: why other files were not returned, one sentence each.
    """

    stdout: str
    stderr: str
    exit_code: int
    timed_out: bool = False
    truncated: bool = False
    duration: float = 0.0
    files: Mapping[str, bytes] = field(default_factory=dict)
    files_left_out: tuple[str, ...] = ()


def with_reason(stderr: str, reason: str) -> str:
    """Add why the sandbox stopped a program, if it did, as a line of its own."""
    if not reason:
        return stderr
    separator = "\n" if stderr and not stderr.endswith("\n") else ""
    return f"{stderr}{separator}[{reason}]\n"
