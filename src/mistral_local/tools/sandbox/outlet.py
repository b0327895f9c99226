"""A pipe that a program writes, read up to a limit."""

import os

_CHUNK = 1 << 16


class Outlet:
    """Reads a pipe that does not block.

    Attributes:
        fd: its descriptor.
        content: what was read so far, at most one byte more than the limit: that one tells that there was more.
        is_open: False once the end was read.
    """

    def __init__(self, fd: int, *, limit: int) -> None:
        self.fd, self._limit = fd, limit
        self.content = bytearray()
        self.is_open = True

    @property
    def is_overflown(self) -> bool:
        """Whether the program wrote more than it may."""
        return len(self.content) > self._limit

    @property
    def text(self) -> str:
        """What it wrote, cut at the limit; what is not UTF-8 is replaced."""
        return self.content[: self._limit].decode(errors="replace")

    def read(self) -> bool:
        """Read once; False if nothing is there now, or nothing will come any more."""
        try:
            chunk = os.read(self.fd, min(_CHUNK, self._limit + 1 - len(self.content)))
        except BlockingIOError:
            return False
        self.is_open = bool(chunk)
        self.content += chunk
        return self.is_open

    def drain(self) -> None:
        """Read all that is there already."""
        while self.is_open and not self.is_overflown and self.read():
            pass
