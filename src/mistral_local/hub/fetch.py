"""Fetch a file in as many attempts as it takes, going on where the last one stopped."""

import http.client
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mistral_local.errors import DownloadError
from mistral_local.hub.http import RangeError, RemoteFile, TransientError, ask, content_range, open_url, remote_file
from mistral_local.hub.part import Part
from mistral_local.hub.progress import Progress
from mistral_local.hub.space import check_space, gigabytes, named_disk_errors

_PIECE = 1 << 20
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """When to try again, and when to give up.

    Attributes:
        retries: attempts after the first that may fail in a row without one new byte.
        timeout_s: seconds of silence after which a connection counts as broken.
        first_wait_s: seconds before the first retry; each further one waits twice as long, up to a minute.
        sleep: waits; a test passes its own.
    """

    retries: int = 6
    timeout_s: float = 30.0
    first_wait_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def wait_s(self, num_failures: int, retry_after_s: float | None) -> float:
        """Seconds before the next attempt: what the server asked for, else longer each time, and never in step with others."""
        if retry_after_s is not None:
            return min(retry_after_s, _LONGEST_WAIT_S)
        longest = min(self.first_wait_s * 2 ** (num_failures - 1), _LONGEST_WAIT_S)
        return longest * random.uniform(0.5, 1.0)


def fetch(url: str, part: Part, patience: Patience, progress: Progress) -> None:
    """Bring `part` to the whole of the file at `url`.

    A part is gone on with only if the server's validator and length are still those it was begun with.  A server that
    ignores ranges sends what is already there again; that is read over, so that a later cut loses nothing.

    Raises:
        DownloadError: if it cannot be had; what has come stays, except what belongs to a file that has changed.
        DiskSpaceError: if the archive and its content do not fit on the disk.
    """

    def once() -> None:
        _fetch_once(url, part, patience.timeout_s, progress)

    attempt(once, patience, progress, reached=lambda: part.size)


def ask_patiently(url: str, patience: Patience, progress: Progress) -> RemoteFile:
    """Ask what the server has, in as many attempts as it takes.

    Raises:
        DownloadError: if it does not say.
    """
    found: list[RemoteFile] = []
    attempt(lambda: found.append(ask(url, timeout_s=patience.timeout_s)), patience, progress, reached=lambda: 0)
    return found[0]


def attempt(once: Callable[[], None], patience: Patience, progress: Progress, *, reached: Callable[[], int]) -> None:
    """Call `once` until it succeeds; only failures without a byte more than ever before are counted.

    Raises:
        DownloadError: after too many failures.
    """
    furthest = reached()
    num_failures = 0
    while True:
        try:
            return once()
        except TransientError as error:
            if reached() > furthest:
                furthest, num_failures = reached(), 0
            num_failures += 1
            if num_failures > patience.retries:
                raise DownloadError(
                    f"{error}; gave up after {patience.retries} retries, run it again to go on"
                ) from error
            wait_s = patience.wait_s(num_failures, error.retry_after_s)
            progress.note(f"{error}; retry {num_failures} of {patience.retries} in {wait_s:.0f} s")
            patience.sleep(wait_s)


def _fetch_once(url: str, part: Part, timeout_s: float, progress: Progress) -> None:
    origin = part.origin(url)
    if part.is_whole(url) and ask(url, timeout_s=timeout_s) == origin:
        return
    headers = _range_headers(part, origin)
    try:
        response = open_url(url, headers=headers, timeout_s=timeout_s)
    except RangeError:
        part.discard()
        raise
    with response:
        remote = remote_file(response)
        position = _position(url, part, origin, response, remote)
        if remote.length is not None:
            missing = remote.length - part.size
            check_space(part.file.parent, missing + remote.length, purpose="the rest of the archive and its content")
        progress.begin("download", part.size, remote.length)
        try:
            _append(response, part, position, progress)
        finally:
            progress.end()
    if remote.length is not None and part.size != remote.length:
        raise TransientError(f"the connection ended at {gigabytes(part.size)} of {gigabytes(remote.length)}")


def _range_headers(part: Part, origin: RemoteFile | None) -> dict[str, str]:
    if origin is None or origin.validator is None or not 0 < part.size < (origin.length or 0):
        return {}
    return {"Range": f"bytes={part.size}-", "If-Range": origin.validator}


def _position(
    url: str, part: Part, origin: RemoteFile | None, response: http.client.HTTPResponse, remote: RemoteFile
) -> int:
    """Return which byte of the file the body begins with; begin a new part unless it is still the same file."""
    if response.status == 206:
        first, _ = content_range(response)
        if remote != origin or first != part.size:
            part.discard()
            raise TransientError("the file has changed on the server, starting over")
        return first
    if remote != origin:
        part.begin(url, remote)
    return 0


def _append(response: http.client.HTTPResponse, part: Part, position: int, progress: Progress) -> None:
    """Write what of the body, which begins at byte `position`, lies behind the end of the part."""
    with named_disk_errors(part.file.parent), part.file.open("ab") as file:  # closing writes, too
        end = part.size
        while piece := _read(response):
            fresh = piece[max(0, end - position) :]
            position += len(piece)
            file.write(fresh)
            file.flush()
            end += len(fresh)
            progress.advance(len(fresh))


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"the connection broke ({error or type(error).__name__})") from error
