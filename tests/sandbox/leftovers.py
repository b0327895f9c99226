"""What a run left behind on the host: processes, mounts, descriptors, files.  The standard library only."""

import ctypes
import os
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PLACES = ("/", "/run", "/dev/shm", "/home")


class Leftovers:
    """Remembers the state of the host; `found_since` says what is new."""

    def __init__(self) -> None:
        # Orphans of ours become our own children, so that they can be told from other people's processes.
        assert ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        self._before = _state()

    def found_since(self, seconds: float = 5) -> list[str]:
        """What is there now and was not then; what is about to go has some seconds for it."""
        deadline = time.monotonic() + seconds
        while (new := sorted(_state() - self._before)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return new


def _state() -> set[str]:
    mounts = {f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    descriptors = {f"descriptor {fd} {_target(fd)}" for fd in os.listdir("/proc/self/fd")}
    files = {f"file {place}/{name}" for place in _PLACES if os.access(place, os.R_OK) for name in os.listdir(place)}
    return mounts | {entry for entry in descriptors if "/proc/" not in entry} | files | set(_sandboxes())


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "/proc/ closed again"


def _sandboxes() -> list[str]:
    """Our children, theirs and so on, that are sandboxes.  Orphans that have died are ours to bury."""
    parents: dict[int, int] = {}
    sandboxes: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        try:
            stat = Path("/proc", entry, "stat").read_text() if entry.isdigit() else ""
        except OSError:
            continue
        if stat:
            pid, (state, parent) = int(entry), stat[stat.rindex(")") + 2 :].split()[:2]
            parents[pid] = int(parent)
            if "(bwrap)" in stat:
                sandboxes[pid] = state
    for pid in [pid for pid, state in sandboxes.items() if state == "Z" and parents[pid] == os.getpid()]:
        os.waitpid(pid, 0)
        del sandboxes[pid]
    ours, found = {os.getpid()}, {os.getpid()}
    while found:
        found = {pid for pid, parent in parents.items() if parent in ours} - ours
        ours |= found
    return [f"process {pid} {state}" for pid, state in sandboxes.items() if pid in ours]
