"""Descriptors that a sandbox is started with."""

import fcntl
import os
import socket
from contextlib import ExitStack


class Inherited(ExitStack):
    """Descriptors that a child is to have and we are not to keep: leaving the context closes our copies.

    Attributes:
        fds: all of them, for Popen's pass_fds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fds: list[int] = []

    def pipe(self, ours: ExitStack) -> tuple[int, int]:
        """Make a pipe: the read end, which does not block and is closed with `ours`, and the child's write end."""
        read_end, write_end = os.pipe()
        ours.callback(os.close, read_end)
        os.set_blocking(read_end, False)
        return read_end, self._add(write_end)

    def socket(self, ours: ExitStack) -> tuple[socket.socket, int]:
        """Make a pair of stream sockets: ours, and the child's."""
        our_end, their_end = socket.socketpair()
        ours.enter_context(our_end)
        return our_end, self._add(their_end.detach())

    def file(self, content: bytes) -> int:
        """Make a file without a name, to be read from its start; nobody can change it any more."""
        fd = self._add(os.memfd_create("mistral_local", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        # A program that gets it as standard input could grow it past every limit.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def _add(self, fd: int) -> int:
        self.callback(os.close, fd)
        self.fds.append(fd)
        return fd
