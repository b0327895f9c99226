"""Run calls: each on a thread of its own, within its time, and whatever happens ends as a text for the model."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

import pydantic_core

from mistral_local.errors import MistralLocalError
from mistral_local.tools.call import ToolCall
from mistral_local.tools.registry import ToolRegistry


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What has come of a call.

    Attributes:
        content: what the model is told.
        is_error: whether the call failed, was refused or took too long.
        duration_s: seconds that it took.
    """

    call: ToolCall
    content: str
    is_error: bool = False
    duration_s: float = 0.0

    def as_message(self) -> dict[str, Any]:
        """The result as a message of the Mistral API."""
        return {"role": "tool", "name": self.call.name, "tool_call_id": self.call.id, "content": self.content}


class Dispatcher:
    """Runs the calls of one answer side by side.

    Args:
        timeout_s: most seconds of a call whose tool does not say otherwise.  What runs longer is left behind: Python cannot
            stop a thread, so it goes on in the background.
        max_chars: most characters of a result; what is longer is cut, and says so.
    """

    def __init__(self, registry: ToolRegistry, *, timeout_s: float, max_chars: int) -> None:
        self._registry, self._timeout_s, self._max_chars = registry, timeout_s, max_chars

    def run(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Run calls at the same time; the results come in their order."""
        started = [(call, time.monotonic(), self._start(call)) for call in calls]
        return [self._wait(*begun) for begun in started]

    async def run_async(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """As run(), on an event loop; functions that are coroutines run on this loop."""
        return list(await asyncio.gather(*(self._run_async(call) for call in calls)))

    def _wait(self, call: ToolCall, began: float, future: Future[ToolResult]) -> ToolResult:
        limit = self._limit_s(call)
        try:
            return future.result(timeout=max(0.0, began + limit - time.monotonic()))
        except FutureTimeoutError:
            return _too_long(call, limit)

    async def _run_async(self, call: ToolCall) -> ToolResult:
        limit, began = self._limit_s(call), time.monotonic()
        if not self._is_coroutine(call):
            waiting = asyncio.wrap_future(self._start(call))
            done, _ = await asyncio.wait([waiting], timeout=limit)
            return waiting.result() if done else _too_long(call, limit)
        try:
            tool = self._registry.find(call.name)
            value = await asyncio.wait_for(tool.function(**tool.arguments(call.arguments)), limit)
        except TimeoutError:
            return _too_long(call, limit)
        except Exception as error:  # noqa: BLE001 - the model is told, and the conversation goes on
            return self._failed(call, error, began)
        return self._result(call, value, began)

    def _start(self, call: ToolCall) -> Future[ToolResult]:
        """Run a call on a thread that does not keep the process alive."""
        future: Future[ToolResult] = Future()
        threading.Thread(
            target=lambda: future.set_result(self._run(call)), name=f"tool {call.name}", daemon=True
        ).start()
        return future

    def _run(self, call: ToolCall) -> ToolResult:
        began = time.monotonic()
        try:
            tool = self._registry.find(call.name)
            value = tool.function(**tool.arguments(call.arguments))
            if inspect.isawaitable(value):
                value = asyncio.run(_awaited(value))
            return self._result(call, value, began)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the model is told, and the conversation goes on
            return self._failed(call, error, began)

    def _result(self, call: ToolCall, value: Any, began: float) -> ToolResult:
        return ToolResult(call, self._cut(as_text(value)), False, time.monotonic() - began)

    def _failed(self, call: ToolCall, error: BaseException, began: float) -> ToolResult:
        return ToolResult(call, self._cut(f"error: {_describe(error)}"), True, time.monotonic() - began)

    def _cut(self, text: str) -> str:
        if len(text) <= self._max_chars:
            return text
        return f"{text[: self._max_chars]}\n[cut: {len(text)} characters in all]"

    def _limit_s(self, call: ToolCall) -> float:
        tool = self._registry.get(call.name)
        return self._timeout_s if tool is None or tool.timeout_s is None else tool.timeout_s

    def _is_coroutine(self, call: ToolCall) -> bool:
        tool = self._registry.get(call.name)
        return tool is not None and inspect.iscoroutinefunction(tool.function)


def as_text(value: Any) -> str:
    """What a tool returned, as the model is told: texts as they are, all else as JSON."""
    text = value if isinstance(value, str) else pydantic_core.to_json(value, fallback=str).decode()
    return text.encode(errors="replace").decode()  # half a surrogate pair is no character


async def _awaited(value: Any) -> Any:
    return await value


def _too_long(call: ToolCall, limit_s: float) -> ToolResult:
    return ToolResult(call, f"error: the call took longer than {limit_s:g} s", True, limit_s)


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, MistralLocalError) else f"{type(error).__name__}: {error}"
