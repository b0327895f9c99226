"""The events of one answer on an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mistral_local.engine.async_engine import AsyncEngine
from mistral_local.tasks.outputs import Event
from mistral_local.tasks.prepared import PreparedRequest


async def stream_answer(engine: AsyncEngine, request: PreparedRequest) -> AsyncIterator[Event]:
    """Yield the events of a prepared request, as AnswerStream does; dropping the iterator stops the answer.

    Raises:
        As AsyncEngine.add(), and MistralLocalError if the model's numbers went wrong.
    """
    tokens = await engine.add(request.tokens, request.params)
    reader = request.reader(tokens.sequence)
    try:
        async for token in tokens:
            for event in reader.push(token):
                yield event
            if reader.is_stopped:
                break
    finally:
        engine.abort(tokens)
    for event in reader.finish():
        yield event
