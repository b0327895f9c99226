"""What a sandbox is asked to run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mistral_local.errors import RequestError
from mistral_local.tools.sandbox.limits import MIB, Limits
from mistral_local.tools.sandbox.work_folder import check_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One program and what it is given.

    Attributes:
        code: Python source; any text, also one that does not compile.
        limits: what it may use.
        stdin: what it reads from its standard input; None is an empty one.
        files: files in its working directory when it starts, by flat name.
        env: environment variables beside the sandbox's own.

    Raises:
        RequestError: if a file or a variable cannot be handed over.
    """

    code: str
    limits: Limits = field(default_factory=Limits)
    stdin: str | bytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.code, str):
            raise RequestError(f"code: expected text, got {type(self.code).__name__}")
        check_files(self.files, disk_bytes=self.limits.disk_mb * MIB)
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                raise RequestError(f"env: {name!r} cannot be a variable with this value")
            if name.startswith("LD_"):
                raise RequestError(f"env: {name} would change how the interpreter itself is loaded")

    @property
    def source(self) -> bytes:
        """The code as bytes; half a surrogate pair passes, and Python reports it."""
        return self.code.encode("utf-8", "surrogatepass")

    @property
    def stdin_bytes(self) -> bytes:
        """What standard input holds."""
        return self.stdin.encode("utf-8", "surrogatepass") if isinstance(self.stdin, str) else self.stdin or b""
