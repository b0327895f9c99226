"""A real server on a free port, in this process so that its engine can be looked at."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from mistral_local.engine.engine import Engine
from mistral_local.server.app import make_app
from mistral_local.server.run import running_app
from mistral_local.server.settings import ServerSettings
from mistral_local.server.state import ServerState
from mistral_local.tasks.async_llm import AsyncLLM
from mistral_local.tasks.loading import load_runtime

KEY = "secret-key-123"
USER = [{"role": "user", "content": "Hello, how are you?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
needs_bwrap = [
    pytest.mark.bwrap,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]


class Live:
    """A running server.

    Attributes:
        url: where it is, without a path.
        engine, state: its engine and what its routes share; only to be looked at.
        http: a client that shows the key.
    """

    def __init__(self, url: str, engine: Engine, state: ServerState) -> None:
        self.url, self.engine, self.state = url, engine, state
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def chat(self, **body: Any) -> httpx.Response:
        return self.post("/v1/chat/completions", **{"messages": USER, "temperature": 0, "max_tokens": 12, **body})

    def text(self, **body: Any) -> str:
        response = self.chat(**body)
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])

    def is_idle(self) -> bool:
        return not self.engine.has_work and self.engine.pool.num_free == self.engine.pool.num_blocks


@contextmanager
def running(*, api_key: str | None = KEY, engine: dict[str, Any] | None = None, **settings: Any) -> Iterator[Live]:
    """Serve the demo checkpoint; afterwards nothing may be left in its engine."""
    runtime = load_runtime(**{"max_batch_size": 4, "max_waiting": 64, "max_context": 1024, **(engine or {})})
    how = ServerSettings(api_key=api_key, port=0, drain_seconds=5, **settings)
    app = make_app(AsyncLLM(runtime), how)
    with running_app(app) as url:
        live = Live(url, runtime.engine, app.state.server)
        try:
            yield live
        finally:
            live.http.close()
    assert live.is_idle()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something; it must come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
