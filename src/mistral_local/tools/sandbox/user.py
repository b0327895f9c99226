"""The user that sandboxes are built as."""

import os
from pathlib import Path

from mistral_local.errors import SandboxUnavailableError

NOBODY = 65534
_UID_MAP = Path("/proc/self/uid_map")


def sandbox_user() -> int | None:
    """The uid and gid to start a sandbox as; None is our own.

    Root's bubblewrap would keep the host's uid 0, which owns much of /proc/sys and has no limit of processes.

    Raises:
        SandboxUnavailableError: if we are root of a user namespace that has no other user.
    """
    if os.geteuid() != 0:
        return None
    ranges = [tuple(map(int, line.split())) for line in _UID_MAP.read_text().splitlines()] if _UID_MAP.exists() else []
    if ranges and not any(first <= NOBODY < first + count for first, _, count in ranges):
        raise SandboxUnavailableError(
            f"root must become user {NOBODY} to build a sandbox, and there is none in this user namespace "
            f"({_UID_MAP}); run as an ordinary user"
        )
    return NOBODY
