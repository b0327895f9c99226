"""Runs inside the sandbox, before and around the program.  It imports nothing of mistral_local: only this file is there.

    python -I -B -X utf8 runner.py CONTROL_FD MEMORY_BYTES CPU_SECONDS PIDS DISK_BYTES MODE

CONTROL_FD is a stream socket to the host.  First the runner lowers its limits for good and hands the host a descriptor
of its working directory.  MODE `once` then runs /run/main.py as a script; MODE `session` runs cells that the host sends.
From there on this process is as trustworthy as the program that runs in it: not at all.
"""

import _socket
import builtins
import os
import resource
import sys
import types

MAIN = "/run/main.py"
NOT_RUN = 256  # above every exit status: a file of the cell could not be written


def main() -> None:
    control_fd, memory_bytes, cpu_seconds, pids, disk_bytes = map(int, sys.argv[1:6])
    is_session = sys.argv[6] == "session"
    sys.argv[:] = ["main.py"]
    _limit(memory_bytes, cpu_seconds, pids, disk_bytes)
    os.closerange(3, control_fd)
    os.closerange(control_fd + 1, 4096)
    control = _socket.socket(fileno=control_fd)
    _hand_over_work_folder(control)
    namespace = _fresh_main(None if is_session else MAIN)
    if is_session:
        _serve_cells(control, namespace)
    else:
        control.close()
        with open(MAIN, "rb") as file:
            source = file.read()
        sys.exit(_run(source, MAIN, namespace))


def _limit(memory_bytes: int, cpu_seconds: int, pids: int, disk_bytes: int) -> None:
    """Set soft and hard limits; none can be raised again."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_NPROC, pids + 1),  # bubblewrap's own process 1 counts as well
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_FSIZE, disk_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 256),
    ):
        resource.setrlimit(limit, (value, value))


def _hand_over_work_folder(control: _socket.socket) -> None:
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    rights = folder.to_bytes(4, sys.byteorder)
    control.sendmsg([b"w"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    os.close(folder)


def _fresh_main(filename: str | None) -> dict[str, object]:
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    if filename is not None:
        module.__file__ = filename
    sys.modules["__main__"] = module
    return module.__dict__


def _run(source: bytes, filename: str, namespace: dict[str, object]) -> int:
    """Run a program as the interpreter would and return its exit status; SystemExit passes through."""
    try:
        code = compile(source.decode("utf-8", "surrogatepass"), filename, "exec", dont_inherit=True)
    except Exception as error:  # noqa: BLE001  SyntaxError, and what NUL, surrogates and deep nesting raise
        error.__traceback__ = None
        sys.excepthook(type(error), error, None)
        return 1
    try:
        exec(code, namespace)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  whatever the program raises is its traceback
        own_frame = error.__traceback__
        error.__traceback__ = own_frame and own_frame.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _serve_cells(control: _socket.socket, namespace: dict[str, object]) -> None:
    """Run one cell after the other in one namespace, and answer each with its exit status in 4 bytes.

    A cell comes as the number of its files, each file's name and content, and its source; before each of these goes its
    length, and all numbers have 4 bytes.
    """
    import linecache
    import traceback

    def show(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)

    sys.excepthook = show
    count = 0
    while header := _receive(control, 4):
        files = [(_receive_part(control), _receive_part(control)) for _ in range(int.from_bytes(header, "big"))]
        source = _receive_part(control)
        count += 1
        filename = f"<cell {count}>"
        lines = [f"{line}\n" for line in source.decode("utf-8", "replace").split("\n")]
        linecache.cache[filename] = (len(source), None, lines, filename)
        status = _run_cell(source, filename, namespace) if _write(files) else NOT_RUN
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):  # the cell closed or replaced it
                continue
        control.sendall(status.to_bytes(4, "big"))


def _write(files: list[tuple[bytes, bytes]]) -> bool:
    """Replace or add files in the working directory, and write through nothing that lies there."""
    for name, content in files:
        try:
            if os.path.lexists(name):
                os.unlink(name)
            with open(name, "xb") as file:
                file.write(content)
        except OSError as error:
            print(f"cannot write {name.decode()}: {error.strerror}", file=sys.stderr)
            return False
    return True


def _run_cell(source: bytes, filename: str, namespace: dict[str, object]) -> int:
    try:
        return _run(source, filename, namespace)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1


def _receive_part(control: _socket.socket) -> bytes:
    return _receive(control, int.from_bytes(_receive(control, 4), "big"))


def _receive(control: _socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = control.recv(min(size - len(parts), 1 << 16))
        if not part:
            return b""
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    main()
