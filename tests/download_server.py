"""A web server for the tests of downloads, whose manners can be set, and the archives that it serves."""

import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Manners:
    """How the server treats one file.

    Attributes:
        cuts: after how many bytes of the body the next GETs are hung up, one entry each; None lets one through.
        failures: (status, Retry-After) of the next GETs.
        status: answered to everything, when set.
        claimed_length: the Content-Length that is said instead of the true one.
        pieces: (bytes, seconds between them) of a slow stream.
        held_back: the bytes of the body after which it waits to be let go, and what lets it go.
    """

    content: bytes
    etag: str | None = '"one"'
    last_modified: str | None = None
    has_ranges: bool = True
    has_length: bool = True
    has_head: bool = True
    cuts: list[int | None] = field(default_factory=list)
    failures: list[tuple[int, str | None]] = field(default_factory=list)
    status: int | None = None
    claimed_length: int | None = None
    redirect: str | None = None
    pieces: tuple[int, float] | None = None
    held_back: tuple[int, threading.Event] | None = None
    on_cut: Any = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (method, Range)
    sent: int = 0

    def change(self, content: bytes, etag: str) -> None:
        """Publish another file under the same address."""
        self.content, self.etag = content, etag


class Server:
    """Serves `files`: path -> Manners."""

    def __init__(self) -> None:
        self.files: dict[str, Manners] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.answer(self)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server looks up

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up here on purpose
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def put(self, path: str, content: bytes, **manners: Any) -> Manners:
        self.files[path] = Manners(content, **manners)
        return self.files[path]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        file = self.files.get(request.path)
        asked = request.headers.get("Range")
        if file is None:
            return self._status(request, 404)
        file.requests.append((request.command, asked))
        is_head = request.command == "HEAD"
        if file.redirect:
            request.send_response(302)
            request.send_header("Location", file.redirect)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return None
        if file.status or (is_head and not file.has_head):
            return self._status(request, file.status or 405)
        if file.failures and not is_head:
            status, retry_after = file.failures.pop(0)
            return self._status(request, status, retry_after)
        return self._send(request, file, asked, is_head)

    def _send(self, request: BaseHTTPRequestHandler, file: Manners, asked: str | None, is_head: bool) -> None:
        content, first = file.content, 0
        condition = request.headers.get("If-Range")
        if asked and file.has_ranges and condition in (None, file.etag, file.last_modified):
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            if first >= len(content):
                return self._status(request, 416)
        is_partial = bool(asked and file.has_ranges and condition in (None, file.etag, file.last_modified))
        request.send_response(206 if is_partial else 200)
        if is_partial:
            request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if file.has_length:
            length = file.claimed_length if file.claimed_length is not None else len(content) - first
            request.send_header("Content-Length", str(length))
        request.send_header("Connection", "close")
        request.close_connection = True
        if file.etag:
            request.send_header("ETag", file.etag)
        if file.last_modified:
            request.send_header("Last-Modified", file.last_modified)
        request.end_headers()
        if not is_head:
            self._send_body(request, file, content[first:])
        return None

    def _send_body(self, request: BaseHTTPRequestHandler, file: Manners, body: bytes) -> None:
        cut = file.cuts.pop(0) if file.cuts else None
        body = body if cut is None else body[:cut]
        size, pause_s = file.pieces or (1 << 16, 0.0)
        size, let_go = file.held_back or (size, None)
        for start in range(0, len(body), size):
            if start and let_go is not None:
                let_go.wait()
            request.wfile.write(body[start : start + size])
            file.sent += len(body[start : start + size])
            if pause_s:
                time.sleep(pause_s)
        if cut is not None and file.on_cut:
            file.on_cut()

    def _status(self, request: BaseHTTPRequestHandler, status: int, retry_after: str | None = None) -> None:
        request.send_response(status)
        if retry_after is not None:
            request.send_header("Retry-After", retry_after)
        request.send_header("Content-Length", "0")
        request.end_headers()


@contextmanager
def running_server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


CHECKPOINT = {
    "params.json": b'{"dim": 8}',
    "consolidated.safetensors": bytes(range(256)) * 2000,
    "tokenizer.model.v3": b"no tokenizer",
}


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    """One member without content."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def make_tar(
    files: dict[str, bytes] | None = None, *, extra: tuple[tarfile.TarInfo, ...] = (), prefix: str = "", mode: str = "w"
) -> bytes:
    """A tar archive of files, and of members that are no files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in (CHECKPOINT if files is None else files).items():
            info = member(prefix + name, size=len(content), mode=0o4777, uid=12345)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
