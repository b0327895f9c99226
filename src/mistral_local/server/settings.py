"""How a server is run: where it listens, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace

from mistral_local.config import parse_bytes
from mistral_local.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one request may ask for; beyond it is refused before anything is computed.

    Attributes:
        head_seconds: in which a request's headers must have come.
        body_bytes: of a request's body.
        body_seconds: in which the whole body must have come.
        json_bytes_on_loop: longer bodies are parsed on a thread.
        messages, tools: of one conversation.
        stops, stop_chars: stop strings, and the length of each.
        choices: answers to one request (n).
        prompts: texts of one completion request.
        embeddings: texts of one embeddings request.
        tokenize: tokens that /v1/tokenize lists.
        moderations: texts or conversations of one moderation request.
        logit_bias: token ids with a bias.
        request_seconds: after which an answer is cut.
        execute_seconds, execute_memory_mb: most that a program may ask for.
    """

    head_seconds: int = 10
    body_bytes: int = 32 * 2**20
    body_seconds: int = 30
    json_bytes_on_loop: int = 256 * 1024
    messages: int = 4096
    tools: int = 256
    stops: int = 16
    stop_chars: int = 256
    choices: int = 16
    prompts: int = 64
    embeddings: int = 512
    tokenize: int = 65536
    moderations: int = 64
    logit_bias: int = 1024
    request_seconds: int = 600
    execute_seconds: int = 30
    execute_memory_mb: int = 512

    def __post_init__(self) -> None:
        for name in self.names():
            if getattr(self, name) < 1:
                raise UsageError(f"--limits {name}: expected at least 1, got {getattr(self, name)}")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What can be limited."""
        return tuple(limit.name for limit in fields(cls))

    def changed(self, words: Iterable[str]) -> Limits:
        """These limits with others in their place.

        Args:
            words: NAME=NUMBER each; bytes may be written as 8MB.

        Raises:
            UsageError: if there is no such limit, or it cannot have this value.
        """
        changes = {}
        for word in words:
            name, _, text = word.partition("=")
            if name not in self.names():
                raise UsageError(f"--limits: there is no limit {name!r}; there are {', '.join(self.names())}")
            if name == "body_bytes":
                changes[name] = parse_bytes(text)
            elif text.isascii() and text.isdecimal():
                changes[name] = int(text)
            else:
                raise UsageError(f"--limits {name}: expected a whole number, got {text!r}")
        return replace(self, **changes)

    def __str__(self) -> str:
        return " ".join(f"{name}={getattr(self, name)}" for name in self.names())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server is run.

    Attributes:
        host, port: where it listens.
        api_key: what a client must show; None lets everyone in who reaches it.
        allowed_origins: web pages that may ask, as the browser's Origin header names them; pages served from this
            machine always may.
        temperature: of requests that name none.
        executes: whether /v1/execute runs programs in the sandbox.
        filters_content: whether the model judges each prompt before it answers.
        drain_seconds: how long answers may go on after SIGTERM.

    Raises:
        UsageError: if it would be open to the network without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    allowed_origins: tuple[str, ...] = ()
    temperature: float = 0.7
    executes: bool = False
    filters_content: bool = False
    drain_seconds: int = 30
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise UsageError(f"--port: expected 0 to 65535, got {self.port}")
        if not 0 <= self.temperature <= 2:
            raise UsageError(f"--temperature: expected 0 to 2, got {self.temperature:g}")
        if self.drain_seconds < 0:
            raise UsageError(f"--drain_seconds: expected at least 0, got {self.drain_seconds}")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise UsageError("the API key must be printable ASCII, and not empty")
        if self.api_key is None and not self.is_local:
            raise UsageError(
                f"--host {self.host} can be reached by others, so a key is needed: --api_key_file FILE, "
                "or the environment variable MISTRAL_LOCAL_API_KEY"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, and nobody else's."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
