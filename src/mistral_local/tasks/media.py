"""Images and audio of a request, made into bytes by us before mistral_common sees them.

mistral_common opens what a URL names: files of this machine, and addresses of its network.  So no URL ever reaches it.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mistral_common.protocol.instruct.chunk import AudioChunk, ImageChunk
from PIL import Image

from mistral_local.errors import RequestError
from mistral_local.tasks.media_fetch import FetchLimits, fetch

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_SOURCES = {"image": "image", "image_url": "image_url", "input_audio": "input_audio", "audio_url": "audio_url"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What the media of one request may be.

    Attributes:
        max_items: most images and audio files together.
        max_pixels: most pixels of an image, width times height.
        max_bytes: most bytes of a file.
        fetch: what may come from the network; nothing by default.
    """

    max_items: int = 16
    max_pixels: int = 20_000_000
    max_bytes: int = 20 * 2**20
    fetch: FetchLimits = field(default_factory=FetchLimits)


def resolve_media(messages: list[Any], limits: MediaLimits) -> list[Any]:
    """Return the messages with the content of each image and audio file in place of its URL.

    Args:
        messages: as dicts; those that are none, and chunks of text, pass as they are.

    Raises:
        RequestError: if a file cannot be had within the limits, or is none of the known formats; its place is named.
    """
    count = 0
    resolved = []
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, list):
            resolved.append(message)
            continue
        chunks = []
        for place, chunk in enumerate(content):
            source = _source(chunk)
            if source is None:
                chunks.append(chunk)
                continue
            count += 1
            if count > limits.max_items:
                raise RequestError(f"more than {limits.max_items} images and audio files")
            try:
                chunks.append(_resolve(*source, limits))
            except RequestError as error:
                raise RequestError(f"messages.{index}.content.{place}: {error}") from error
        resolved.append({**message, "content": chunks})
    return resolved


def _source(chunk: Any) -> tuple[str, str | bytes] | None:
    """The type of a media chunk and what it names; None for a chunk of another type, or of no known form."""
    kind = chunk.get("type") if isinstance(chunk, Mapping) else None
    if kind not in _SOURCES:
        return None
    source = chunk.get(_SOURCES[kind])
    if isinstance(source, Mapping):
        source = source.get("url", source.get("data"))
    if not isinstance(source, str | bytes):
        raise RequestError(f"{kind}: expected a URL or base64")
    return kind, source


def _resolve(kind: str, source: str | bytes, limits: MediaLimits) -> ImageChunk | AudioChunk:
    content = _content(source, limits)
    if kind.startswith("image"):
        return ImageChunk(image=open_image(content, max_pixels=limits.max_pixels))
    return AudioChunk(input_audio=content)


def _content(source: str | bytes, limits: MediaLimits) -> bytes:
    """The bytes that a data URL, plain base64 or an allowed URL stands for."""
    if isinstance(source, bytes):
        return _limited(source, limits)
    if source.startswith("data:"):
        header, comma, source = source.partition(",")
        if not comma or not header.endswith(";base64"):
            raise RequestError("url: a data: URL must be base64")
    elif ":" in source[:32]:
        return _limited(fetch(source, limits.fetch), limits)
    if len(source) > limits.max_bytes * 4 // 3 + 4:
        raise RequestError(f"the file has more than {limits.max_bytes} bytes")
    try:
        return _limited(base64.b64decode(source, validate=True), limits)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"no base64: {error}") from error


def _limited(content: bytes, limits: MediaLimits) -> bytes:
    if not content:
        raise RequestError("the file is empty")
    if len(content) > limits.max_bytes:
        raise RequestError(f"the file has more than {limits.max_bytes} bytes")
    return content


def open_image(content: bytes, *, max_pixels: int) -> Image.Image:
    """Decode an image, of several frames the first; its size is checked before a pixel is decoded.

    Raises:
        RequestError: if it is too large, damaged, or not PNG, JPEG, WEBP or GIF.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise RequestError(f"the image has {width} x {height} pixels, at most {max_pixels} are allowed")
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"the image cannot be read (PNG, JPEG, WEBP or GIF): {error}") from error
    return image
