"""One strict reading of JSON objects: no duplicate keys, no NaN, a size limit, and our own exceptions."""

import json
from pathlib import Path
from typing import Any, NoReturn

from mistral_local.errors import CheckpointError


def read_object(file: Path, *, max_bytes: int, error: type[CheckpointError]) -> dict[str, Any]:
    """Read a file that holds one JSON object of at most `max_bytes`; anything else raises `error`."""
    try:
        size = file.stat().st_size
        if size > max_bytes:
            raise error(f"{file}: expected at most {max_bytes} bytes of JSON, found {size}")
        content = file.read_bytes()
    except OSError as exception:
        raise error(f"{file}: cannot be read ({exception.strerror or exception})") from exception
    return parse_object(content, source=str(file), error=error)


def parse_object(content: bytes, *, source: str, error: type[CheckpointError]) -> dict[str, Any]:
    """Parse one JSON object; anything else, a duplicate key, NaN or Infinity raises `error` naming `source`.

    Keys must be printable, because messages show them on one line.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise error(f"{source}: the key {shown(key)} appears twice")
            if not key.isprintable():
                raise error(f"{source}: the key {shown(key)} is not printable")
            result[key] = value
        return result

    def refuse(constant: str) -> NoReturn:
        raise error(f"{source}: {constant} is not a JSON number")

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as exception:  # ValueError: bad UTF-8, bad JSON, too many digits
        raise error(f"{source}: not valid JSON ({exception})") from exception
    if not isinstance(value, dict):
        raise error(f"{source}: expected a JSON object, found {shown(value)}")
    return value


def shown(value: object) -> str:
    """The value as JSON for a one-line message, cut after 60 characters."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
