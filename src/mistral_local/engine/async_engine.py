"""The engine on a thread of its own, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.engine.stats import EngineStats
from mistral_local.errors import EngineClosedError, MistralLocalError, RankLostError
from mistral_local.sampling.params import SamplingParams

_log = logging.getLogger(__name__)


class TokenStream(AsyncIterator[int]):
    """The new tokens of a sequence; the engine's thread writes, one task of the event loop reads.

    Attributes:
        sequence: its state; read logprobs and finish_reason when the stream has ended.
        loop: on which it is read.
    """

    def __init__(self, sequence: Sequence, loop: asyncio.AbstractEventLoop) -> None:
        self.sequence = sequence
        self.loop = loop
        self._unread: deque[int | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._num_sent = 0

    async def __anext__(self) -> int:
        while not self._unread:
            self._waiter = self.loop.create_future()
            await self._waiter
        token = self._unread.popleft()
        if token is not None:
            return token
        self._unread.append(None)  # whoever asks again is told the same
        if self.sequence.error is not None:
            raise MistralLocalError(self.sequence.error)
        raise StopAsyncIteration

    def send_news(self) -> None:
        """Pass on what is new; None says that the sequence has ended.  Called by the engine's thread."""
        send_all_news([self])

    def take_news(self) -> list[int | None]:
        """What has not been passed on yet, for send_all_news()."""
        news: list[int | None] = [*self.sequence.tokens[self.sequence.num_prompt_tokens + self._num_sent :]]
        self._num_sent += len(news)
        if self.sequence.is_finished:
            news.append(None)
        return news

    def put(self, news: list[int | None]) -> None:
        """Let the reader have it; called by the event loop."""
        self._unread.extend(news)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def send_all_news(streams: Iterable[TokenStream]) -> None:
    """Pass on what is new of many streams, waking each event loop once.  Called by the engine's thread."""
    news_by_loop: dict[asyncio.AbstractEventLoop, list[tuple[TokenStream, list[int | None]]]] = {}
    for stream in streams:
        if news := stream.take_news():
            news_by_loop.setdefault(stream.loop, []).append((stream, news))
    for loop, parts in news_by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_put_all, parts)


def _put_all(parts: list[tuple[TokenStream, list[int | None]]]) -> None:
    for stream, news in parts:
        stream.put(news)


class AsyncEngine:
    """Steps an engine on its own thread while sequences come and go on an event loop.

        async with AsyncEngine(engine) as running:
            async for token in running.stream(prompt, params):
                ...

    Leaving the context aborts what still runs.

    Args:
        engine: nobody else may use it meanwhile.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._streams: set[TokenStream] = set()
        self._thread = threading.Thread(target=self._work, name="mistral_local engine", daemon=True)
        self._is_open = False
        self._lost: str | None = None

    @property
    def max_num_seqs(self) -> int:
        """Most sequences that run at the same time."""
        return self._engine.config.max_num_seqs

    @property
    def capacity(self) -> int:
        """Most sequences that run and wait together; sys.maxsize if any number may wait."""
        config = self._engine.config
        return sys.maxsize if config.max_waiting is None else config.max_num_seqs + config.max_waiting

    @property
    def is_running(self) -> bool:
        """Whether sequences are taken and stepped."""
        return self._is_open and self._thread.is_alive() and self._lost is None

    async def __aenter__(self) -> Self:
        self._is_open = True
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    async def stream(self, prompt: list[int], params: SamplingParams) -> AsyncIterator[int]:
        """Yield the new tokens of a prompt; dropping the iterator aborts the sequence within one step.

        Raises:
            As add(), and MistralLocalError if the sequence ended by an error.
        """
        tokens = await self.add(prompt, params)
        try:
            async for token in tokens:
                yield token
        finally:
            self.abort(tokens)

    async def add(self, prompt: list[int], params: SamplingParams) -> TokenStream:
        """Queue a prompt; whoever gives up the stream before its end must abort() it.

        Raises:
            RequestError, OutOfMemoryError, EngineBusyError: as Engine.add.
            EngineClosedError: if the engine was stopped, or has died.
        """
        loop = asyncio.get_running_loop()
        future = self._submit(lambda: self._open(prompt, params, loop))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._abort_unwanted)
            raise

    async def generate(self, prompts: list[list[int]], params: list[SamplingParams]) -> list[Sequence]:
        """Run prompts to their end and return their sequences in order; giving up the wait aborts what still runs.

        No more prompts are queued at a time than may run together, so that one caller does not fill the queue.

        Raises:
            As add(), and MistralLocalError if a sequence ended by an error.
        """
        sequences: list[Sequence] = []
        for start in range(0, len(prompts), self.max_num_seqs):
            end = start + self.max_num_seqs
            streams: list[TokenStream] = []
            try:
                for prompt, its_params in zip(prompts[start:end], params[start:end], strict=True):
                    streams.append(await self.add(prompt, its_params))
                for stream in streams:
                    async for _ in stream:
                        pass
            finally:
                for stream in streams:
                    self.abort(stream)
            sequences += [stream.sequence for stream in streams]
        return sequences

    def abort(self, stream: TokenStream) -> None:
        """End a sequence within one step; nothing happens if it has ended.  May be called from any thread."""
        if self.is_running and not stream.sequence.is_finished:
            self._submit(lambda: self._close(stream))

    def give_up(self, error: str) -> None:
        """End every sequence by an error and take no more, though the engine's thread may hang in a step for ever.

        May be called from any thread.
        """
        self._lost = error
        for stream in list(self._streams):
            stream.sequence.finish("error", error)
            stream.send_news()
        self._refuse_calls()

    async def stats(self) -> EngineStats:
        """The numbers of now."""
        return await asyncio.wrap_future(self._submit(self._engine.stats))

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Let the engine's thread make a call between two steps."""
        future: Future[Any] = Future()
        self._calls.put((call, future))
        if not self.is_running:
            self._refuse_calls()
        return future

    def _refuse_calls(self) -> None:
        """Let nobody wait for an engine that does not run; the word to its thread to end stays."""
        is_told_to_end = False
        while not self._calls.empty():
            with contextlib.suppress(queue.Empty):
                asked = self._calls.get_nowait()
                is_told_to_end |= asked is None
                if asked is not None and asked[1].set_running_or_notify_cancel():
                    asked[1].set_exception(self._why_not())
        if is_told_to_end:
            self._calls.put(None)

    def _why_not(self) -> MistralLocalError:
        return EngineClosedError("the engine does not run") if self._lost is None else RankLostError(self._lost)

    def _abort_unwanted(self, future: Future[TokenStream]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.abort(future.result())

    # From here on everything runs on the engine's thread.

    def _work(self) -> None:
        try:
            while self._answer_calls():
                if self._engine.has_work:
                    self._step()
        finally:  # whatever ended it, nobody is left waiting
            self._is_open = False
            for stream in self._streams:
                self._engine.abort(stream.sequence)
            send_all_news(self._streams)
            self._refuse_calls()

    def _answer_calls(self) -> bool:
        """Make the calls that came meanwhile, waiting for one if there is nothing to step; False when closing."""
        while not self._calls.empty() or not self._engine.has_work:
            asked = self._calls.get()
            if asked is None:
                return False
            call, future = asked
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:  # noqa: BLE001 - it is the caller's, who awaits the future
                    future.set_exception(error)
        return True

    def _step(self) -> None:
        try:
            self._engine.step()
        except Exception as error:  # noqa: BLE001 - those who await the sequences are told
            _log.exception("a step failed; its sequences end")
            self._engine.fail_running(f"{type(error).__name__}: {error}")
        send_all_news(self._streams)
        self._streams = {stream for stream in self._streams if not stream.sequence.is_finished}

    def _open(self, prompt: list[int], params: SamplingParams, loop: asyncio.AbstractEventLoop) -> TokenStream:
        stream = TokenStream(self._engine.add(prompt, params), loop)
        self._streams.add(stream)
        return stream

    def _close(self, stream: TokenStream) -> None:
        self._engine.abort(stream.sequence)
        stream.send_news()
        self._streams.discard(stream)
