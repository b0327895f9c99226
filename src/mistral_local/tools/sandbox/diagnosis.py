"""Why bubblewrap could not build a sandbox, in words that help."""

import os
import re
from pathlib import Path

_APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
_NAMESPACE_TROUBLE = re.compile(
    r"No permissions to create.*namespace|Creating new namespace failed|uid map|gid map|RTM_NEWADDR|setgroups"
    r"|unshare|Failed to make / slave|disable-userns|max_user_namespaces|loopback",
)


def explain_failure(stderr: str, *, python: str, proc_sys: Path = Path("/proc/sys"), root: Path = Path("/")) -> str:
    """Name the cause and the fix.

    Args:
        stderr: what bubblewrap wrote.
        python: the interpreter that was to run inside.
        proc_sys, root: where the kernel's settings and a container's marks are looked for.
    """
    message = (stderr.strip().splitlines() or ["it wrote no message"])[-1]
    if _NAMESPACE_TROUBLE.search(message):
        return f"{_namespace_cause(proc_sys, root)} (bubblewrap says: {message})"
    if "Can't find source path" in message or "execvp" in message:
        return (
            f"the interpreter {python} is not readable for the user that the sandbox runs as; name another one, "
            f"for example --sandbox_python /usr/bin/python3 (bubblewrap says: {message})"
        )
    return f"the sandbox could not be built with {python}: {message}"


def _namespace_cause(proc_sys: Path, root: Path) -> str:
    if _setting(proc_sys / "user/max_user_namespaces") == "0":
        return "user namespaces are off: sysctl -w user.max_user_namespaces=10000"
    if _setting(proc_sys / "kernel/unprivileged_userns_clone") == "0":
        return "user namespaces are off for ordinary users: sysctl -w kernel.unprivileged_userns_clone=1"
    if _is_container(root):
        return (
            "the container forbids user namespaces: start it with a seccomp and AppArmor profile that allows unshare, "
            "for example --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or try --sandbox wasm"
        )
    if _setting(proc_sys / _APPARMOR) == "1":
        return (
            "AppArmor forbids user namespaces to bubblewrap: give /usr/bin/bwrap a profile with `userns,` "
            f"(apt install apparmor-profiles has bwrap-userns-restrict), or sysctl -w {_APPARMOR.replace('/', '.')}=0"
        )
    return "the kernel does not let bubblewrap create namespaces; try --sandbox wasm"


def _setting(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _is_container(root: Path) -> bool:
    marks = (root / ".dockerenv", root / "run/.containerenv")
    return any(mark.exists() for mark in marks) or "container" in os.environ or "KUBERNETES_SERVICE_HOST" in os.environ
