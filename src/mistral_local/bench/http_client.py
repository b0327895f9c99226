"""A client of a running server that costs little itself: it counts the events of streams and reads only their ends."""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mistral_local.errors import MistralLocalError

MAX_EVENT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Streamed:
    """One answer that was streamed; times are those of time.perf_counter().

    Attributes:
        first_at, ended_at: when the first text and the end came.
        num_events: pieces of the answer.
        prompt_tokens, new_tokens: as the server counted them.
    """

    first_at: float
    ended_at: float
    num_events: int
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one server.

    Attributes:
        url: without a path.
        key: if it wants one.
        pid: of its process, if it is known.
    """

    url: str
    key: str | None = None
    pid: int | None = None

    def tokens_of(self, body: dict[str, Any]) -> list[int]:
        """The prompt that a chat request becomes."""
        request = urllib.request.Request(f"{self.url}/v1/tokenize", json.dumps(body).encode(), self._headers())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
            return [token["id"] for token in json.load(response)["tokens"]]

    def stream_all(self, bodies: list[dict[str, Any]]) -> list[Streamed]:
        """Chat with all bodies at the same time, each on a connection of its own."""

        async def ask() -> list[Streamed]:
            return await asyncio.gather(*map(self._stream, bodies))

        return asyncio.run(ask())

    def cpu_seconds(self) -> tuple[float, float] | None:
        """CPU time of the server's process so far, and of its event loop's thread alone; None if nobody can say."""
        if self.pid is None:
            return None
        try:
            return _cpu_seconds(Path(f"/proc/{self.pid}/stat")), _cpu_seconds(
                Path(f"/proc/{self.pid}/task/{self.pid}/stat")
            )
        except OSError:
            return None

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", **({} if self.key is None else {"api-key": self.key})}

    async def _stream(self, body: dict[str, Any]) -> Streamed:
        address = urlsplit(self.url)
        is_tls = address.scheme == "https"
        port = address.port or (443 if is_tls else 80)
        try:
            reader, writer = await asyncio.open_connection(
                address.hostname, port, ssl=is_tls or None, limit=MAX_EVENT_BYTES
            )
        except OSError as error:
            raise MistralLocalError(f"nobody answers at {self.url}: {error}") from error
        content = json.dumps({**body, "stream": True}).encode()
        fields = {"Host": address.netloc, **self._headers(), "Content-Length": str(len(content)), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + content)
            return await _read(reader)
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Streamed:
    """Read a stream of events to its end.

    Raises:
        MistralLocalError: if it is none.
    """
    status = await reader.readline()
    if b" 200 " not in status:
        raise MistralLocalError(f"the server answers {status.decode(errors='replace').strip() or 'nothing'}")
    first_at, num_events, last = 0.0, 0, b""
    async for line in reader:
        if line.startswith(b"data: {"):
            num_events += 1
            last = line
            if num_events == 2:  # the first names the role only
                first_at = time.perf_counter()
    ended_at = time.perf_counter()
    usage = json.loads(last.removeprefix(b"data: ") or b"{}").get("usage")
    if usage is None:
        raise MistralLocalError("the server's stream has no end")
    return Streamed(first_at, ended_at, num_events, usage["prompt_tokens"], usage["completion_tokens"])


def _cpu_seconds(stat: Path) -> float:
    """User and system time of a process or thread, by Linux."""
    fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
