"""Where there is no sandbox nothing runs, and the error names the cause and the fix."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mistral_local.errors import SandboxUnavailableError
from mistral_local.tools.sandbox import ExecResult, Sandbox, bubblewrap, native
from mistral_local.tools.sandbox.bubblewrap import find_bubblewrap
from mistral_local.tools.sandbox.diagnosis import explain_failure
from mistral_local.tools.sandbox.interpreter import find_interpreter
from mistral_local.tools.sandbox.probe import Probe


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def refusal(sandbox: Sandbox, tmp_path: Path) -> str:
    with pytest.raises(SandboxUnavailableError) as error:
        sandbox.run(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert not (tmp_path / "ran").exists()
    return str(error.value)


def test_bubblewrap_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bubblewrap, "_FOLDERS", (str(tmp_path),))
    assert refusal(Sandbox(), tmp_path) == (
        f"bubblewrap >= 0.8 not found in {tmp_path}. "
        "Install it: apt install bubblewrap | dnf install bubblewrap | pacman -S bubblewrap"
    )


@pytest.mark.parametrize(("output", "named"), [("bubblewrap 0.6.2", "0.6.2"), ("what?", "'what?'")])
def test_bubblewrap_that_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output: str, named: str) -> None:
    monkeypatch.setattr(bubblewrap, "_FOLDERS", (str(tmp_path),))
    script(tmp_path / "bwrap", f"echo '{output}'")
    assert f"bubblewrap >= 0.8 is needed, {tmp_path}/bwrap is {named}." in refusal(Sandbox(), tmp_path)


def test_bubblewrap_in_the_callers_path_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "bwrap", "echo bubblewrap 9.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bubblewrap, "_FOLDERS", (str(tmp_path / "nowhere"),))
    with pytest.raises(SandboxUnavailableError):
        find_bubblewrap()


def test_other_systems_and_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native.platform, "machine", lambda: "riscv64")
    expected = "the system call filter knows aarch64 and x86_64, this is riscv64; try --sandbox wasm"
    assert refusal(Sandbox(), tmp_path) == expected
    monkeypatch.setattr(native.sys, "platform", "darwin")
    assert refusal(Sandbox(), tmp_path) == "bubblewrap needs Linux, this is darwin; try --sandbox wasm"


@pytest.mark.parametrize(
    ("python", "reason"),
    [
        ("python3", "python3 is not an absolute path"),
        ("/nowhere/python3", "/nowhere/python3 does not exist"),
        ("{old}", "{old} is Python 3.8, 3.11 or newer is needed"),
        ("{broken}", "{broken} does not start (no module)"),
        ("{talker}", "{talker} is not a Python"),
    ],
)
def test_interpreters_that_cannot_be(python: str, reason: str, tmp_path: Path) -> None:
    names = {
        "old": script(tmp_path / "old", """echo '[[3, 8], "/o", "/o", "/", "/"]'"""),
        "broken": script(tmp_path / "broken", "echo no module >&2; exit 1"),
        "talker": script(tmp_path / "talker", "echo hello"),
    }
    with pytest.raises(SandboxUnavailableError) as error:
        find_interpreter(python.format(**names), user=None)
    assert str(error.value).startswith(f"the sandbox has no Python: {reason.format(**names)}. Name one that is >= 3.11")
    assert "--sandbox_python /usr/bin/python3" in str(error.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up its own rights for the sandbox")
def test_an_interpreter_that_nobody_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    (folder / "python").symlink_to(sys.executable)
    with pytest.raises(SandboxUnavailableError, match="is not readable for the user that the sandbox runs as"):
        find_interpreter(str(folder / "python"), user=65534)


NAMESPACE = "bwrap: No permissions to create new namespace, likely because ..."


@pytest.mark.parametrize(
    ("settings", "stderr", "cause"),
    [
        ({"user/max_user_namespaces": "0"}, NAMESPACE, "user namespaces are off: sysctl -w user.max_user_namespaces"),
        ({"kernel/unprivileged_userns_clone": "0"}, NAMESPACE, "user namespaces are off for ordinary users: sysctl -w"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            "bwrap: setting up uid map: Permission denied",
            "AppArmor forbids user namespaces to bubblewrap: give /usr/bin/bwrap a profile",
        ),
        ({".dockerenv": ""}, "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "the container forbids"),
        ({}, NAMESPACE, "the kernel does not let bubblewrap create namespaces; try --sandbox wasm"),
        ({}, "bwrap: Can't find source path /root/p: Permission denied", "the interpreter PYTHON is not readable"),
        ({}, "a: error while loading shared libraries", "the sandbox could not be built with PYTHON: a: error while"),
        ({}, "", "the sandbox could not be built with PYTHON: it wrote no message"),
    ],
)
def test_the_cause_is_named(
    settings: dict[str, str], stderr: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("container", raising=False)
    for name, value in settings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    message = explain_failure(stderr, python="PYTHON", proc_sys=tmp_path, root=tmp_path)
    assert message.startswith(cause)
    assert "\n" not in message
    assert stderr in message


@pytest.mark.parametrize(
    ("stdout", "found"),
    [
        ("sockets are open\n{nonce}\n", "the sandbox does not hold on this machine: sockets are open"),
        ("", "the sandbox does not hold on this machine: exit code 0"),
        ("{nonce}\n", None),
    ],
)
def test_the_probe_accepts_only_its_own_answer(stdout: str, found: str | None) -> None:
    probe = Probe()
    nonce = probe.job.code.split("print('")[-1].split("'")[0]
    result = ExecResult(stdout=stdout.format(nonce=nonce), stderr="", exit_code=0)
    if found is None:
        probe.check(result)
    else:
        with pytest.raises(SandboxUnavailableError) as error:
            probe.check(result)
        assert str(error.value) == found


IN_A_NAMESPACE = """
import ctypes, os, sys
open("/proc/sys/user/max_user_namespaces", "w").write("0")
ctypes.CDLL(None).prctl(47, 4, 0, 0, 0)  # bubblewrap refuses to start with ambient capabilities
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
REPORT = """
from mistral_local.errors import SandboxUnavailableError
from mistral_local.tools.sandbox import Sandbox
try:
    print(Sandbox().run("print('it ran')"))
except SandboxUnavailableError as error:
    print(error)
"""


def report_in(*unshare: str, code: list[str]) -> str:
    done = subprocess.run(
        ["unshare", "--user", *unshare, sys.executable, "-c", *code], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"unshare cannot make such a namespace here: {done.stderr.strip()[-200:]}")
    return done.stdout


@pytest.mark.bwrap
def test_a_kernel_without_user_namespaces_is_named() -> None:
    report = report_in("--map-user=1000", "--map-group=1000", "--keep-caps", code=[IN_A_NAMESPACE, REPORT])
    assert report.startswith("user namespaces are off: sysctl -w user.max_user_namespaces=10000")


@pytest.mark.bwrap
def test_a_root_that_cannot_become_another_user_is_named() -> None:
    report = report_in("--map-root-user", code=[REPORT])
    assert report.startswith("root must become user 65534 to build a sandbox, and there is none")


@pytest.mark.bwrap
def test_a_failure_is_not_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sandbox = Sandbox()
    with monkeypatch.context() as patch:
        patch.setattr(bubblewrap, "_FOLDERS", (str(tmp_path),))
        refusal(sandbox, tmp_path)
    assert sandbox.run("print(1)").stdout == "1\n"
