"""Fetch a media file from the network: from hosts that were allowed, and never from a private address.

The name is resolved once, every address is checked, and the connection goes to the address that was checked, so that a
name cannot point elsewhere a moment later.  Redirects are not followed and proxies are not asked.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from mistral_local.errors import RequestError

_PORTS = {"http": 80, "https": 443}
_ODD = re.compile(r"[\x00-\x20\x7f\\]")  # characters on which readers of URLs disagree
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What may be fetched.

    Attributes:
        hosts: names that are allowed, as they stand in the URL; none by default.
        max_bytes: most bytes of a file.
        timeout_s: most seconds from the connection to the last byte.
    """

    hosts: frozenset[str] = frozenset()
    max_bytes: int = 20 * 2**20
    timeout_s: float = 5.0


def fetch(url: str, limits: FetchLimits) -> bytes:
    """Read a file from a host that is allowed.

    Raises:
        RequestError: if the URL is not allowed, or the file cannot be read within the limits.
    """
    parts = _checked(url, limits)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    deadline = time.monotonic() + limits.timeout_s
    try:
        connection = _connect(parts.scheme, host, _public_address(host, port), port, limits.timeout_s)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"User-Agent": "mistral_local", "Accept-Encoding": "identity"})
            return _read(connection.getresponse(), host, deadline, limits)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{host}: the file could not be fetched: {error or type(error).__name__}") from error


def _checked(url: str, limits: FetchLimits) -> SplitResult:
    """Take the URL apart if it is allowed."""
    if _ODD.search(url):
        raise RequestError("url: it holds spaces, control characters or a backslash")
    try:
        parts = urlsplit(url)
        has_bad_port = parts.port not in (None, 80, 443)
    except ValueError as error:
        raise RequestError(f"url: {error}") from error
    if parts.scheme not in _PORTS:
        raise RequestError(f"url: only data:, and http(s): where it is allowed; found {parts.scheme or 'no scheme'}")
    if parts.username is not None or parts.password is not None:
        raise RequestError("url: no user or password may stand in it")
    if has_bad_port:
        raise RequestError(f"url: port {parts.port} is not allowed")
    if not limits.hosts:
        raise RequestError("url: fetching from the network is switched off; send the file as a data: URL")
    if (parts.hostname or "") not in limits.hosts:
        raise RequestError(f"url: host {parts.hostname!r} is not allowed")
    return parts


def _public_address(host: str, port: int) -> str:
    """The address of a host; every one that it has must be public."""
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in addresses:
        if not is_public(address):
            raise RequestError(f"url: {host} is at {address}, which is not a public address")
    if not addresses:
        raise RequestError(f"url: {host} has no address")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address belongs to the public network, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner: list[ipaddress.IPv4Address | ipaddress.IPv6Address | None] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        inner += [ip.ipv4_mapped, ip.sixtofour, nat64, *(ip.teredo or ())]
    return all(part.is_global and not part.is_multicast for part in inner if part is not None)


def _connect(scheme: str, host: str, address: str, port: int, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the address that was checked, which speaks to the host by its name."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    plain = socket.create_connection((address, port), timeout=timeout_s)
    try:
        context = ssl.create_default_context() if scheme == "https" else None
        connection.sock = context.wrap_socket(plain, server_hostname=host) if context else plain
    except BaseException:
        plain.close()
        raise
    return connection


def _read(response: http.client.HTTPResponse, host: str, deadline: float, limits: FetchLimits) -> bytes:
    if response.status != 200:
        raise RequestError(f"{host}: expected status 200, got {response.status}; redirects are not followed")
    content = bytearray()
    while piece := response.read1(_PIECE):
        content += piece
        if len(content) > limits.max_bytes:
            raise RequestError(f"{host}: the file has more than {limits.max_bytes} bytes")
        if time.monotonic() > deadline:
            raise RequestError(f"{host}: the file did not come within {limits.timeout_s} s")
    return bytes(content)
