"""A loaded model on an event loop: many requests at the same time, none of which blocks the loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from mistral_local.engine.async_engine import AsyncEngine
from mistral_local.engine.stats import EngineStats
from mistral_local.sampling.params import Pooling
from mistral_local.tasks.answer import collect
from mistral_local.tasks.async_answer import AsyncAnswer, start_answer
from mistral_local.tasks.embeddings import aembed
from mistral_local.tasks.loading import Runtime, describe
from mistral_local.tasks.messages import Message
from mistral_local.tasks.moderation import (
    Moderation,
    ModerationRequest,
    can_moderate,
    moderate_chats,
    moderate_prompts,
    moderate_texts,
)
from mistral_local.tasks.outputs import Answer, Event
from mistral_local.tasks.prepared import PreparedRequest
from mistral_local.tasks.request_builder import RequestBuilder

T = TypeVar("T")

PREPARING_THREADS = 4
"""Requests that are encoded at the same time; one that compiles a slow grammar holds up no others."""


class AsyncLLM:
    """A loaded model that answers many requests at once.

        async with AsyncLLM(runtime) as llm:
            request = await llm.prepare_chat(messages, max_tokens=20)
            async for _, event in await llm.start([request]):
                ...

    Leaving the context ends what still runs.

    Args:
        runtime: nobody else may use its engine meanwhile.

    Attributes:
        name: of the checkpoint's folder.
        context_length: most tokens of one request, prompt and answer together.
        embedding_length: numbers of an embedding.
        world: the ranks that the model is on.
        description: the model in a line.
        tokenizer: that of the checkpoint.
    """

    def __init__(self, runtime: Runtime, *, note: Callable[[str], None] | None = None) -> None:
        self.name = runtime.name
        self.context_length = runtime.engine.max_context
        self.embedding_length = runtime.model.args.dim
        self.world = runtime.model.world
        self.description = describe(runtime.model, runtime.tokenizer, runtime.engine)
        self.tokenizer = runtime.tokenizer
        self._requests = RequestBuilder(runtime.tokenizer, self.context_length, note=note)
        self._engine = AsyncEngine(runtime.engine)
        self._threads = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="mistral_local prepare")

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._engine.__aexit__(kind, error, trace)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def is_running(self) -> bool:
        """Whether the engine takes requests."""
        return self._engine.is_running

    def give_up(self, error: str) -> None:
        """End every request by an error and take no more; may be called from any thread."""
        self._engine.give_up(error)

    @property
    def capacity(self) -> int:
        """Most sequences that run and wait together."""
        return self._engine.capacity

    @property
    def has_fim(self) -> bool:
        """Whether the tokenizer can fill in the middle."""
        return self.tokenizer.control_id("[SUFFIX]") is not None

    @property
    def has_tools(self) -> bool:
        """Whether the tokenizer can call functions."""
        return self.tokenizer.control_id("[TOOL_CALLS]") is not None

    @property
    def can_moderate(self) -> bool:
        """Whether the model can be asked to judge texts."""
        return can_moderate(self.tokenizer)

    async def prepare_chat(self, messages: Iterable[Message], **fields: Any) -> PreparedRequest:
        """Encode a conversation; arguments and errors as in RequestBuilder.chat()."""
        return await self.apart(lambda: self._requests.chat(messages, **fields))

    async def prepare_fim(self, prompt: str, suffix: str = "", **options: Any) -> PreparedRequest:
        """Encode a gap; errors as in RequestBuilder.fim()."""
        return await self.apart(lambda: self._requests.fim(prompt, suffix, **options))

    async def prepare_text(self, prompt: str | list[int], **options: Any) -> PreparedRequest:
        """Encode plain text, or take token ids as they are; errors as in RequestBuilder.text()."""
        return await self.apart(lambda: self._requests.text(prompt, **options))

    async def start(self, requests: list[PreparedRequest]) -> AsyncAnswers:
        """Queue requests and return the events of all of them; none is left behind if one is refused.

        Raises:
            RequestError, EngineBusyError: as AsyncEngine.add().
        """
        answers: list[AsyncAnswer] = []
        try:
            for request in requests:
                answers.append(await start_answer(self._engine, request))  # noqa: PERF401 - closed if the next fails
        except BaseException:
            for answer in answers:
                answer.close()
            raise
        return AsyncAnswers(answers)

    async def embed(
        self, prompts: list[str | list[int]], *, pooling: Pooling = "mean"
    ) -> tuple[list[list[float]], int]:
        """One vector of length 1 per text, and how many tokens they had together; as LLM.embed().

        Raises:
            RequestError: if a text cannot be computed.
        """
        tokens = await self.apart(lambda: [self._requests.plain_tokens(prompt) for prompt in prompts])
        return await aembed(self._engine, tokens, pooling=pooling), sum(map(len, tokens))

    async def moderate(self, texts: list[str]) -> tuple[list[Moderation], int]:
        """How the model judges each text, and how many tokens were asked; errors as in moderate_texts()."""
        return await self._judge(await self.apart(lambda: moderate_texts(self._requests, texts)))

    async def moderate_chats(self, conversations: Iterable[Iterable[Message]]) -> tuple[list[Moderation], int]:
        """The same of the last message of each conversation; errors as in moderate_chats()."""
        return await self._judge(await self.apart(lambda: moderate_chats(self._requests, conversations)))

    async def moderate_prompts(self, prompts: list[list[int]]) -> list[Moderation]:
        """How the model judges what it is to see, by the harmful categories; errors as in moderate_prompts()."""
        judged, _ = await self._judge(await self.apart(lambda: moderate_prompts(self._requests, prompts)))
        return judged

    async def stats(self) -> EngineStats:
        """What the engine does and has done."""
        return await self._engine.stats()

    async def apart(self, work: Callable[[], T]) -> T:
        """Do what takes time on one of the threads that prepare requests."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _judge(self, request: ModerationRequest) -> tuple[list[Moderation], int]:
        return request.results(await self._engine.generate(request.prompts, request.params)), request.num_tokens


class AsyncAnswers(AsyncIterator[tuple[int, Event]]):
    """The events of answers that are written at the same time, each with the number of its answer, as they come.

    Closing it, or letting go of it, stops all of them within one step.
    """

    def __init__(self, answers: list[AsyncAnswer]) -> None:
        self._answers = answers
        self._deadline: asyncio.TimerHandle | None = None
        self._events = _numbered(answers[0]) if len(answers) == 1 else _merged(answers)

    def __anext__(self) -> Awaitable[tuple[int, Event]]:
        return anext(self._events)

    async def collect(self) -> list[Answer]:
        """Wait for all answers and return them in order; giving up the wait stops them."""
        events: list[list[Event]] = [[] for _ in self._answers]
        try:
            async for index, event in self:
                events[index].append(event)
        finally:
            self.close()
        return [collect(iter(its_events)) for its_events in events]

    def close_after(self, seconds: float) -> None:
        """Stop what still runs then; the timer does not keep the answers."""
        self._deadline = asyncio.get_running_loop().call_later(seconds, _close, weakref.ref(self))

    def close(self) -> None:
        """Stop what still runs."""
        if self._deadline is not None:
            self._deadline.cancel()
        for answer in self._answers:
            answer.close()


def _close(answers: weakref.ref[AsyncAnswers]) -> None:
    if (open_answers := answers()) is not None:
        open_answers.close()


async def _numbered(answer: AsyncAnswer) -> AsyncGenerator[tuple[int, Event], None]:
    async for event in answer:
        yield 0, event


async def _merged(answers: list[AsyncAnswer]) -> AsyncGenerator[tuple[int, Event], None]:
    """Events of several answers in the order in which they come.

    Raises:
        What the first answer that failed raised.
    """
    news: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue()
    readers = [asyncio.create_task(_read(index, answer, news)) for index, answer in enumerate(answers)]
    try:
        num_open = len(answers)
        while num_open:
            index, event = await news.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                num_open -= 1
            else:
                yield index, event
    finally:
        for reader in readers:
            reader.cancel()


async def _read(index: int, answer: AsyncAnswer, news: asyncio.Queue[tuple[int, Event | Exception | None]]) -> None:
    try:
        async for event in answer:
            news.put_nowait((index, event))
        news.put_nowait((index, None))
    except Exception as error:  # noqa: BLE001 - it is raised where the events are read
        news.put_nowait((index, error))
