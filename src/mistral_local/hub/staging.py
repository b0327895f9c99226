"""The folder beside the target in which a download grows until it is whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mistral_local.errors import DownloadBusyError
from mistral_local.hub.part import Part


@dataclass(frozen=True, slots=True)
class Staging:
    """`.NAME.download` beside the folder NAME: on the same disk, so that a rename puts the result in place at once.

    It holds `lock`, `archive.part`, `archive.state` and `unpacked`; scripts/download.sh uses the same names.
    """

    target: Path

    @property
    def folder(self) -> Path:
        """Where everything of an unfinished download is."""
        return self.target.parent / f".{self.target.name}.download"

    @property
    def part(self) -> Part:
        """The archive, as far as it has come."""
        return Part(self.folder / "archive.part", self.folder / "archive.state")

    @property
    def unpacked(self) -> Path:
        """What becomes the target."""
        return self.folder / "unpacked"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out, until the end of the context or of this process.

        Raises:
            DownloadBusyError: if another process is in.
        """
        lock = self._lock()
        try:
            yield
        finally:
            if self.folder.exists() and [entry.name for entry in self.folder.iterdir()] == ["lock"]:
                self.discard()
            os.close(lock)

    def put_in_place(self) -> None:
        """Make `unpacked` the target and remove the rest; the target is absent or an empty folder."""
        os.rename(self.unpacked, self.target)
        _sync_folder(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Remove everything that was staged, if anything was."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear_unpacked(self) -> None:
        """Remove what an earlier attempt unpacked."""
        if self.unpacked.exists():
            shutil.rmtree(self.unpacked)

    def _lock(self) -> int:
        """Lock the file `lock`; again if it was removed in between by the process that has just finished."""
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise DownloadBusyError(f"another process is downloading to {self.target}") from None
            if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
                return lock
            os.close(lock)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
