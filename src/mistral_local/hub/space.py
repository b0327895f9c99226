"""Room on the disk, asked for before it is needed."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mistral_local.errors import DiskSpaceError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def gigabytes(num_bytes: int) -> str:
    """Return a size for people.

    >>> gigabytes(14_496_047_104), gigabytes(10_395_816), gigabytes(812)
    ('14.5 GB', '10.4 MB', '812 bytes')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.1f} {name}"
    return f"{num_bytes} bytes"


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written below `folder`, which need not exist yet."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def check_space(folder: Path, needed: int, *, purpose: str) -> None:
    """Refuse to start what cannot be finished.

    Raises:
        DiskSpaceError: if fewer than `needed` bytes are free.
    """
    free = free_bytes(folder)
    if free < needed:
        raise DiskSpaceError(f"{purpose} needs {gigabytes(needed)}, but {folder} has {gigabytes(free)} free")


@contextmanager
def named_disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk met while writing into a DiskSpaceError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskSpaceError(
                f"the disk of {folder} is full; what has come is kept, free some space and go on"
            ) from error
        raise
