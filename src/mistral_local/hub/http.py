"""One GET or HEAD: what the server says of a file, and which failures may pass."""

import email.utils
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from mistral_local.errors import DownloadError, UsageError

# RFC 9110 section 15: what a server may answer otherwise a moment later.
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSALS = {
    401: "the server wants a login",
    403: "the server refuses it",
    404: "there is no such file",
    410: "it was removed",
    451: "it is withheld for legal reasons",
}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class TransientError(Exception):
    """What another attempt may cure.

    Attributes:
        retry_after_s: how long the server asked to wait.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class RangeError(TransientError):
    """The server has no such range: the part is not of the file that it has now."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What a server says of a file.

    Attributes:
        length: bytes of the whole file; None when it does not say.
        validator: a strong ETag, else Last-Modified: equal validators mean equal bytes (RFC 9110 section 8.8).
    """

    length: int | None
    validator: str | None


def open_url(
    url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> http.client.HTTPResponse:
    """Send a request and return the answer, its body unread; redirects are followed, proxies of the environment asked.

    Raises:
        UsageError: if the URL is not of http or https.
        TransientError: if another attempt may succeed.
        DownloadError: if none will.
    """
    check_url(url)
    asked = {"User-Agent": "mistral_local", "Accept-Encoding": "identity", **(headers or {})}
    request = urllib.request.Request(url, headers=asked, method=method)
    try:
        return _OPENER.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        raise _status_error(error, url) from error
    except urllib.error.URLError as error:
        raise TransientError(f"no connection to {urlsplit(url).netloc} ({_reason(error.reason)})") from error
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"the connection to {urlsplit(url).netloc} broke ({_reason(error)})") from error


def check_url(url: str) -> None:
    """Refuse what is no http(s) address, before anything is sent."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"expected an address that begins with http:// or https://, got {url!r}")
    if re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(f"the address {url!r} has a space or control character in it; write it as %20")


def remote_file(response: http.client.HTTPResponse) -> RemoteFile:
    """Read the headers of an answer to GET, ranged GET or HEAD."""
    etag = response.headers.get("ETag")
    if etag is not None and etag.startswith("W/"):  # equal meaning, not equal bytes
        etag = None
    length: int | None
    if response.status == 206:
        length = content_range(response)[1]
    else:
        length = _whole_number(response.headers.get("Content-Length"))
    return RemoteFile(length, etag or response.headers.get("Last-Modified"))


def content_range(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return (first byte, length of the whole file) of a partial answer; (-1, None) if it does not say."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return (int(found[1]), int(found[2])) if found else (-1, None)


def ask(url: str, *, timeout_s: float) -> RemoteFile:
    """Ask what the server has, without the body: by HEAD, or by a GET that is hung up where HEAD is refused.

    Raises:
        TransientError, DownloadError, UsageError: as `open_url`.
    """
    try:
        with open_url(url, method="HEAD", timeout_s=timeout_s) as response:
            remote = remote_file(response)
    except DownloadError:
        remote = RemoteFile(None, None)
    if remote.length is not None:
        return remote
    with open_url(url, timeout_s=timeout_s) as response:
        return remote_file(response)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(f"{req.full_url} redirects to {newurl}, which is not encrypted")
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise DownloadError(f"{req.full_url} redirects to {newurl}, which is no http address")
        redirected = super().redirect_request(req, fp, code, msg, headers, newurl)
        if redirected is not None:
            redirected.method = req.get_method()  # a HEAD stays one
        return redirected


def _make_opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone: no file:, ftp: or data:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER = _make_opener()


def _status_error(error: urllib.error.HTTPError, url: str) -> Exception:
    if error.code == 416:
        return RangeError("the server has no such range")
    if error.code in TRANSIENT_STATUS:
        return TransientError(f"the server answered {error.code} {error.reason}", _retry_after_s(error.headers))
    return DownloadError(f"{url}: {REFUSALS.get(error.code, error.reason)} (HTTP {error.code})")


def _retry_after_s(headers: Message) -> float | None:
    """Read Retry-After: seconds or a date."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _reason(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
