"""Find out whether mistral-serve answers at an address."""

import json
import urllib.error
import urllib.request
from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit

from mistral_local.errors import UsageError
from mistral_local.server.settings import is_loopback

TIMEOUT_S = 5


class Found(Enum):
    """What is at an address."""

    NOTHING = auto()
    """Nobody answers, or only to say that it is shutting down."""
    STRANGER = auto()
    """Something that is not mistral-serve."""
    LOCKED = auto()
    """mistral-serve, which wants another key."""
    READY = auto()


def parse_address(text: str) -> str:
    """Read `http://HOST:PORT`, with or without a slash or /v1 at its end.

    Raises:
        UsageError: if it is no such address.
    """
    try:
        address = urlsplit(text)
        is_address = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        is_address = False
    if not is_address or address.query or address.fragment or not text.isascii():
        raise UsageError(f"--url: expected an address such as http://127.0.0.1:8000, got {text!r}")
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def is_local(url: str) -> bool:
    """Whether an address is on this machine, and no proxy can reach it."""
    return is_loopback(urlsplit(url).hostname or "")


def find_server(url: str, key: str | None) -> Found:
    """Ask whether a server is ready; the key is shown only to one that asks for it."""
    found = _ask(url, None)
    return _ask(url, key) if found is Found.LOCKED and key is not None else found


def _ask(url: str, key: str | None) -> Found:
    try:
        request = urllib.request.Request(f"{url}/ready", headers={} if key is None else {"api-key": key})
        opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_local(url) else []))
        with opener.open(request, timeout=TIMEOUT_S) as response:
            status, body = response.status, response.read(10_000)
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read(10_000)
    except OSError:
        return Found.NOTHING
    except Exception:  # noqa: BLE001 - http.client's errors for what is no HTTP
        return Found.STRANGER
    return _judge(status, _fields(body))


def _judge(status: int, fields: dict[str, Any]) -> Found:
    if status == 200 and fields.get("status") == "ready" and "model" in fields:
        return Found.READY
    if status == 401 and fields.get("code") == "invalid_api_key":
        return Found.LOCKED
    if status == 503 and fields.get("code") == "unavailable":
        return Found.NOTHING
    return Found.STRANGER


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
