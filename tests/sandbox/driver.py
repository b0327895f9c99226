"""Runs attacks on behalf of the tests, as whatever user it was started as, and reports as JSON lines.

    python driver.py FOLDER        FOLDER: a place of this user, for secrets and sockets

Reads {"source": program template, "arguments": of run, "bare": without the sandbox} and writes the result.
Everything that attacks look for is here: an environment with a secret, descriptors, files, servers, a victim process.
"""

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from leftovers import Leftovers

from mistral_local.tools.sandbox import Sandbox
from mistral_local.tools.sandbox.syscall_numbers import AARCH64, X86_64

SECRET = "the secret of the host"


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["SECRET_OF_THE_HOST"] = SECRET
    host = make_host(folder)
    sandbox = Sandbox()
    sandbox.run("pass")
    victim = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    host["victim"] = victim.pid
    try:
        for line in sys.stdin:
            job = json.loads(line)
            code = job["program"].replace("HOST_OF_THE_DRIVER", repr(host | {"bare": job["bare"]}))
            answer = run_bare(code, folder) if job["bare"] else run_sandboxed(sandbox, code, job["arguments"])
            answer["victim_is_alive"] = victim.poll() is None
            print(json.dumps(answer), flush=True)
    finally:
        victim.kill()
        shutil.rmtree(Path(host["temporary_secret"]).parent)


def run_sandboxed(sandbox: Sandbox, code: str, arguments: dict[str, Any]) -> dict[str, Any]:
    before = Leftovers()
    result = sandbox.run(code, **arguments)
    return {
        "stdout": result.stdout[-2000:],
        "stderr": result.stderr[-2000:],
        "exit_code": result.exit_code,
        "timed_out": result.timed_out,
        "truncated": result.truncated,
        "begins": result.stdout.startswith("BEGIN\n"),
        "leaks": "LEAK" in result.stdout,
        "left": before.found_since(),
    }


def run_bare(code: str, folder: Path) -> dict[str, Any]:
    """What a bare subprocess would let happen; in a folder of its own, for 20 s at most."""
    work = tempfile.mkdtemp(dir=folder)
    stdin = os.open(Path(work, "stdin"), os.O_RDWR | os.O_CREAT)
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", code],
        cwd=work,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        close_fds=False,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    os.close(stdin)
    try:
        stdout, _ = process.communicate(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(work)
    return {
        "stdout": stdout[-2000:],
        "exit_code": process.returncode,
        "begins": stdout.startswith("BEGIN\n"),
        "leaks": "LEAK" in stdout,
    }


def make_host(folder: Path) -> dict[str, Any]:
    """Put secrets and servers where attacks look for them."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    temporary = Path(tempfile.mkdtemp(dir="/tmp"), "secret")
    temporary.write_text(SECRET)
    os.set_inheritable(os.open(secret, os.O_RDONLY), True)
    tcp = listen(socket.AF_INET, ("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    threading.Thread(target=echo_datagrams, args=(udp,), daemon=True).start()
    name = f"mistral_local-{os.getpid()}"
    listen(socket.AF_UNIX, str(folder / "socket"))
    listen(socket.AF_UNIX, f"\0{name}")
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(f"\0{name}-datagrams")
    threading.Thread(target=echo_datagrams, args=(datagrams,), daemon=True).start()
    return {
        "driver": os.getpid(),
        "home_secret": str(secret),
        "temporary_secret": str(temporary),
        "tcp_port": tcp.getsockname()[1],
        "udp_port": udp.getsockname()[1],
        "socket_file": str(folder / "socket"),
        "abstract_socket": name,
        "abstract_datagrams": f"{name}-datagrams",
        "numbers": {"x86_64": X86_64, "aarch64": AARCH64}[platform.machine()],
    }


def listen(family: int, address: Any) -> socket.socket:
    server = socket.socket(family)
    server.bind(address)
    server.listen()
    threading.Thread(target=answer_connections, args=(server,), daemon=True).start()
    return server


def answer_connections(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        connection.sendall(SECRET.encode())
        connection.close()


def echo_datagrams(server: socket.socket) -> None:
    while True:
        _, sender = server.recvfrom(1000)
        if sender:
            server.sendto(SECRET.encode(), sender)


if __name__ == "__main__":
    main()
