"""Media of a request: bytes come from the request itself or from allowed public hosts, and from nowhere else."""

import base64
import io
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mistral_common.protocol.instruct.chunk import AudioChunk, ImageChunk, TextChunk
from PIL import Image

from mistral_local.errors import RequestError
from mistral_local.tasks import media_fetch
from mistral_local.tasks.chat import chat_request
from mistral_local.tasks.media import MediaLimits, open_image, resolve_media
from mistral_local.tasks.media_fetch import FetchLimits, fetch, is_public


def png(width: int = 30, height: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def image_message(url: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": url}]}]


def test_a_data_url_becomes_the_image_itself() -> None:
    for url in (data_url(png()), {"url": data_url(png()), "detail": "high"}, base64.b64encode(png()).decode()):
        (message,) = resolve_media(image_message(url), MediaLimits())
        text, image = message["content"]
        assert text == {"type": "text", "text": "?"}
        assert isinstance(image, ImageChunk)
        assert image.image.tobytes() == Image.open(io.BytesIO(png())).tobytes()


def test_a_conversation_with_media_is_refused_unless_the_model_can_look_at_them() -> None:
    messages = image_message(data_url(png()))
    (message,) = chat_request(messages, media=MediaLimits()).request.messages
    assert [type(chunk) for chunk in message.content] == [TextChunk, ImageChunk]
    with pytest.raises(RequestError, match=r"messages.0.content: only text is supported, found image_url"):
        chat_request(messages)
    with pytest.raises(RequestError, match=r"messages.0.content.1: url: fetching from the network is switched off"):
        chat_request(image_message("http://127.0.0.1/"), media=MediaLimits())


def test_audio_becomes_bytes() -> None:
    chunks = [
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}},
        {"type": "audio_url", "audio_url": data_url(b"RIFF", "audio/wav")},
    ]
    (message,) = resolve_media([{"role": "user", "content": chunks}], MediaLimits())
    assert [(type(chunk), chunk.input_audio) for chunk in message["content"]] == [(AudioChunk, b"RIFF")] * 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.com/a.png", "switched off"),
        ("http://127.0.0.1/a.png", "switched off"),
        ("file:///etc/passwd", "only data:, and http"),
        ("ftp://example.com/a", "only data:, and http"),
        ("gopher://example.com", "only data:, and http"),
        ("/etc/passwd", "no base64|cannot be read"),
        ("../secret.png", "no base64"),
        ("http://a\\@b/", "backslash"),
        ("http://a b/", "spaces"),
        ("http://user:pass@example.com/", "no user or password"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:99999/", "url:"),
        ("data:image/png,abc", "must be base64"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,!!!!", "no base64"),
        ("", "empty"),
    ],
)
def test_what_is_no_allowed_url_is_refused_and_never_opened(url: str, message: str) -> None:
    with pytest.raises(RequestError, match=rf"messages.0.content.1: .*({message})"):
        resolve_media(image_message(url), MediaLimits())


def test_a_file_of_this_machine_is_not_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(png())
    errors = []
    for name in ("there.png", "missing.png"):
        for url in (f"file://{tmp_path}/{name}", f"{tmp_path}/{name}"):
            with pytest.raises(RequestError) as caught:
                resolve_media(image_message(url), MediaLimits())
            errors.append(str(caught.value).replace(name, ""))
    assert errors[:2] == errors[2:]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "ff02::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::",
    ],
)
def test_addresses_that_are_not_public_are_known(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are_known() -> None:
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "0177.0.0.1"])
def test_a_host_that_is_allowed_but_private_is_refused(host: str) -> None:
    limits = FetchLimits(hosts=frozenset([host.strip("[]")]))
    with pytest.raises(RequestError, match=r"not a public address|could not be fetched"):
        fetch(f"http://{host}/x", limits)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1/secret")
            self.end_headers()
            return
        self.send_response(200 if self.path != "/missing" else 404)
        self.end_headers()
        if self.path == "/image?x=1":
            self.wfile.write(png())
        elif self.path == "/long":
            self.wfile.write(b"x" * 5000)
        elif self.path == "/slow":
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    threading.Event().wait(0.05)
            except OSError:
                pass
        elif self.path == "/host":
            self.wfile.write(self.headers["Host"].encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that `media.test` resolves to, as if 127.0.0.1 were public; the names that were resolved are listed."""
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = http_server.server_address[1]
    thread = threading.Thread(target=http_server.serve_forever, daemon=True)
    thread.start()
    resolved: list[str] = []

    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *how: Any, **named: Any) -> list[Any]:
        if host != "media.test":
            return resolve(host, port, *how, **named)
        resolved.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    create_connection = socket.create_connection
    monkeypatch.setattr(media_fetch, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(
        media_fetch.socket, "create_connection", lambda where, **how: create_connection((where[0], port), **how)
    )
    monkeypatch.setattr(media_fetch.socket, "getaddrinfo", getaddrinfo)
    yield resolved
    http_server.shutdown()
    http_server.server_close()


HOSTS = frozenset(["media.test"])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_file_of_an_allowed_host_is_fetched_once_resolved(server: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    limits = MediaLimits(fetch=FetchLimits(hosts=HOSTS))
    (message,) = resolve_media(image_message("http://media.test/image?x=1"), limits)
    assert message["content"][1].image.size == (30, 20)
    assert server.count("media.test") == 1
    assert fetch("http://media.test/host", FetchLimits(hosts=HOSTS)) == b"media.test"
    with pytest.raises(RequestError, match=r"host 'other\.test' is not allowed"):
        fetch("http://other.test/host", FetchLimits(hosts=HOSTS))


@pytest.mark.parametrize(
    ("path", "message"),
    [("/moved", "got 302; redirects"), ("/missing", "got 404"), ("/long", "more than 1000 bytes"), ("/slow", "0.3 s")],
)
def test_what_exceeds_the_limits_of_a_fetch_is_refused(server: list[str], path: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        fetch(f"http://media.test{path}", FetchLimits(hosts=HOSTS, max_bytes=1000, timeout_s=0.3))


def test_https_checks_the_certificate_of_the_host(server: list[str]) -> None:
    with pytest.raises(RequestError, match=r"media.test: the file could not be fetched"):
        fetch("https://media.test/image", FetchLimits(hosts=HOSTS))
    assert ssl.create_default_context().check_hostname


def bomb(width: int, height: int) -> bytes:
    """A PNG header that promises many pixels."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    chunk = b"IHDR" + header
    start = b"\x89PNG\r\n\x1a\n" + len(header).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return start + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bomb(5000, 5000), "5000 x 5000 pixels"),
        (bomb(50_000, 50_000), "cannot be read|pixels"),
        (png()[:60], "cannot be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read"),
        (b"BM" + b"\0" * 100, "cannot be read"),
        (b"\0" * 100, "cannot be read"),
    ],
)
def test_images_that_cannot_be_are_refused_before_they_are_decoded(content: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_image(content, max_pixels=20_000_000)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (0, 128, 255)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert open_image(out.getvalue(), max_pixels=100).convert("RGB").getpixel((0, 0)) == (0, 0, 0)


def test_too_many_and_too_large_files_are_refused() -> None:
    chunk = {"type": "image_url", "image_url": data_url(png())}
    with pytest.raises(RequestError, match="more than 2 images"):
        resolve_media([{"role": "user", "content": [chunk] * 3}], MediaLimits(max_items=2))
    with pytest.raises(RequestError, match="more than 10 bytes"):
        resolve_media([{"role": "user", "content": [chunk]}], MediaLimits(max_bytes=10))
    assert len(resolve_media([{"role": "user", "content": [chunk] * 2}], MediaLimits(max_items=2))) == 1
