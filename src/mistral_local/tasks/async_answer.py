"""The events of one answer on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

from mistral_local.engine.async_engine import AsyncEngine, TokenStream
from mistral_local.tasks.answer import AnswerReader
from mistral_local.tasks.outputs import Event
from mistral_local.tasks.prepared import PreparedRequest


class AsyncAnswer(AsyncIterator[Event]):
    """The events of one sequence while the engine's thread steps it; the last one is Finished.

    Closing it, or letting go of it, stops the answer within one step and frees what it held.
    """

    def __init__(self, engine: AsyncEngine, tokens: TokenStream, reader: AnswerReader) -> None:
        self._engine, self._tokens = engine, tokens
        self._events = _events(engine, tokens, reader)

    def __anext__(self) -> Awaitable[Event]:
        return anext(self._events)

    def close(self) -> None:
        """Stop the answer; nothing happens if it has ended."""
        self._engine.abort(self._tokens)

    def __del__(self) -> None:
        self.close()


async def start_answer(engine: AsyncEngine, request: PreparedRequest) -> AsyncAnswer:
    """Queue a prepared request and return its events.

    Raises:
        As AsyncEngine.add().  The events raise MistralLocalError if the model's numbers went wrong.
    """
    if request.wants_tokens:
        tokens = await engine.add(request.tokens, request.params)
    else:
        tokens = TokenStream(request.finished_sequence(), asyncio.get_running_loop())
        tokens.send_news()
    return AsyncAnswer(engine, tokens, request.reader(tokens.sequence))


async def _events(engine: AsyncEngine, tokens: TokenStream, reader: AnswerReader) -> AsyncGenerator[Event, None]:
    """Yield the events of a sequence; it does not know its AsyncAnswer, so that letting go of that frees it at once."""
    async for token in tokens:
        for event in reader.push(token):
            yield event
        if reader.is_stopped:
            break
    engine.abort(tokens)
    for event in reader.finish():
        yield event
