"""The files of the sandbox's working directory, seen from the host through a descriptor of it."""

import os
import stat
from collections.abc import Mapping

from mistral_local.errors import RequestError

MAX_FILES = 64
_MAX_REASONS = 16
_MAX_SEEN = 1024


def check_files(files: Mapping[str, bytes], *, disk_bytes: int) -> None:
    """Refuse files that cannot be put into a working directory.

    Raises:
        RequestError: a name with a slash, NUL or more than 255 bytes, too many files, or too many bytes.
    """
    for name, content in files.items():
        if not is_flat_name(name):
            raise RequestError(f"files: expected a plain file name without a folder, got {name!r}")
        if not isinstance(content, bytes):
            raise RequestError(f"files: expected bytes as the content of {name}, got {type(content).__name__}")
    if len(files) > MAX_FILES:
        raise RequestError(f"files: at most {MAX_FILES}, got {len(files)}")
    if (total := sum(map(len, files.values()))) > disk_bytes:
        raise RequestError(f"files: {total} bytes do not fit into disk_mb = {disk_bytes >> 20}")


def is_flat_name(name: str) -> bool:
    """Whether a name is one file name, in UTF-8, and no path."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(encoded) <= 255 and name not in (".", "..") and "/" not in name and "\0" not in name


def read_files(folder: int, known: Mapping[str, bytes], *, max_bytes: int) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Read the regular files that a program left, without following a link.

    Args:
        folder: descriptor of the working directory.
        known: files that were there before; what is unchanged is not returned.
        max_bytes: of all files together; sparse files count as long as they claim to be.

    Returns:
        The files by name, and why others were left out, one sentence each.
    """
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    names, is_complete = _names(folder)
    num_left = max_bytes
    for name in sorted(names):
        content = _read(folder, name, num_left) if len(files) < MAX_FILES else f"more than {MAX_FILES} files"
        if isinstance(content, str):
            left_out.append(f"{_printable(name)}: {content}")
        elif known.get(name) != content:
            files[name] = content
            num_left -= len(content)
    if not is_complete:
        left_out.append(f"more than {_MAX_SEEN} names: the others were not looked at")
    if len(left_out) > _MAX_REASONS:
        left_out = [*left_out[: _MAX_REASONS - 1], f"and {len(left_out) - _MAX_REASONS + 1} more"]
    return files, tuple(left_out)


def _names(folder: int) -> tuple[list[str], bool]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(names) == _MAX_SEEN:
                return names, False
            names.append(entry.name)
    return names, True


def _read(folder: int, name: str, max_bytes: int) -> bytes | str:
    """The content of one file, or why it is not returned."""
    if not is_flat_name(name):
        return "its name is not UTF-8"
    try:
        # O_NONBLOCK: opening a pipe must not wait for a writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    try:
        return _read_regular(descriptor, max_bytes)
    finally:
        os.close(descriptor)


def _read_regular(descriptor: int, max_bytes: int) -> bytes | str:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_nlink != 1:
        return "has a second name (hard link)"
    if status.st_size > max_bytes:
        return f"its {status.st_size} bytes are more than may be returned"
    with open(descriptor, "rb", closefd=False) as file:
        content = file.read(max_bytes + 1)
    return content if len(content) <= max_bytes else "grew while it was read"


def _printable(name: str) -> str:
    return ascii(name)[1:-1]
