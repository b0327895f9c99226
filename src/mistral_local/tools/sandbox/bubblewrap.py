"""bubblewrap: where it is, and the arguments that build the sandbox."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mistral_local.errors import SandboxUnavailableError
from mistral_local.tools.sandbox.interpreter import Interpreter

_FOLDERS = ("/usr/bin", "/usr/local/bin")  # never the caller's PATH
_OLDEST = (0, 8)  # the first with --size and --disable-userns
_INSTALL = "apt install bubblewrap | dnf install bubblewrap | pacman -S bubblewrap"

WORK = "/home/sandbox"
ENVIRONMENT = {
    "PATH": "/usr/bin",
    "HOME": WORK,
    "TMPDIR": WORK,
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "MALLOC_ARENA_MAX": "2",  # an arena per thread would fill the address space
}

_WALLS = [
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--disable-userns", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--cap-drop", "ALL"),
    *("--die-with-parent", "--new-session", "--clearenv"),
]


def find_bubblewrap() -> str:
    """The path of a bubblewrap that can build the sandbox.

    Raises:
        SandboxUnavailableError: if there is none, or it is too old.
    """
    for folder in _FOLDERS:
        path = Path(folder, "bwrap")
        if path.is_file():
            _check_version(str(path))
            return str(path)
    raise SandboxUnavailableError(f"bubblewrap >= 0.8 not found in {' or '.join(_FOLDERS)}. Install it: {_INSTALL}")


def _check_version(path: str) -> None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, env={}, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxUnavailableError(f"{path} does not start: {error}") from error
    found = re.search(r"(\d+)\.(\d+)\S*", done.stdout)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        version = found[0] if found else repr(done.stdout.strip())
        raise SandboxUnavailableError(f"bubblewrap >= 0.8 is needed, {path} is {version}. Update it: {_INSTALL}")


def arguments(
    interpreter: Interpreter,
    *,
    disk_bytes: int,
    env: Mapping[str, str],
    contents: Mapping[str, int],
    files: Mapping[str, int],
    filter_fd: int,
    status_fd: int,
    alive_fd: int,
) -> list[str]:
    """bubblewrap's options, all but the command.

    Args:
        disk_bytes: size of the only writable place, WORK; /tmp is a link to it.
        env: variables beside `ENVIRONMENT`, over which they win.
        contents: read-only files inside: path -> descriptor of the content.
        files: the program's own files in WORK: name -> descriptor of the content.
        filter_fd: descriptor of the seccomp filter.
        status_fd: bubblewrap writes there whether the program started and how it ended.
        alive_fd: held open by the sandbox's process 1, and by it alone.

    No /proc, no /sys, no /etc, no program but the interpreter.  /dev and the root are tmpfs without a size, so they
    become read-only.  The root is last, after everything that is created in it.
    """
    libraries = ["--ro-bind", "/usr/lib", "/usr/lib", "--ro-bind-try", "/usr/lib64", "/usr/lib64"]
    libraries += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]
    for path in ("/usr/local/lib", "/usr/share/zoneinfo", "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"):
        libraries += ["--ro-bind-try", path, path]
    variables = {**ENVIRONMENT, **interpreter.environment, **env}
    return [
        *_WALLS,
        *(part for name, value in variables.items() for part in ("--setenv", name, value)),
        *libraries,
        *("--dev", "/dev", "--remount-ro", "/dev"),
        *("--size", str(disk_bytes), "--tmpfs", WORK),
        *interpreter.bindings(),
        *(() if interpreter.is_below("/tmp") else ("--symlink", WORK[1:], "/tmp")),
        *(part for name, fd in files.items() for part in ("--perms", "0644", "--file", str(fd), f"{WORK}/{name}")),
        *(part for path, fd in contents.items() for part in ("--perms", "0444", "--ro-bind-data", str(fd), path)),
        *("--chdir", WORK, "--remount-ro", "/"),
        *("--seccomp", str(filter_fd), "--json-status-fd", str(status_fd), "--sync-fd", str(alive_fd)),
    ]
