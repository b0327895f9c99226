"""From the tokens of one sequence to the events of one answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import MistralLocalError
from mistral_local.tasks.answer_parser import AnswerParser
from mistral_local.tasks.outputs import (
    Answer,
    BrokenToolCall,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDone,
    Usage,
)
from mistral_local.tokenizer.tokenizer import Tokenizer


class AnswerReader:
    """Makes the events of one answer from the tokens of one sequence, whoever steps the engine.

        for token in ...:                   # or: async for
            yield from reader.push(token)
            if reader.is_stopped:
                break
        ...                                 # abort the sequence
        yield from reader.finish()

    Args:
        prefix: text that the prompt has put in the model's mouth; it is part of the answer.
    """

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer, parser: AnswerParser, *, prefix: str = "") -> None:
        self._sequence, self._tokenizer, self._parser = sequence, tokenizer, parser
        self._prefix = prefix
        self._tokens: list[int] = []

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has appeared: no more tokens are needed."""
        return self._parser.is_stopped

    def push(self, token: int) -> list[Event]:
        """Take the next new token of the sequence."""
        events = self._first_events()
        if self._sequence.params.logprobs:
            events.append(self._logprob(len(self._tokens), token))
        self._tokens.append(token)
        return events + self._parser.push(token)

    def finish(self) -> list[Event]:
        """No more tokens come: the last events, at the very end Finished.

        Raises:
            MistralLocalError: if the model's numbers went wrong.
        """
        sequence = self._sequence
        if sequence.error is not None:
            raise MistralLocalError(sequence.error)
        events = self._first_events() + self._parser.finish(is_cut=sequence.finish_reason != "stop")
        return [*events, Finished(self._finish_reason(), self._usage(), self._tokenizer.spell_out(self._tokens))]

    def _first_events(self) -> list[Event]:
        prefix, self._prefix = self._prefix, ""
        return [TextDelta(prefix)] if prefix else []

    def _finish_reason(self) -> FinishReason:
        reason = self._sequence.finish_reason
        if not self.is_stopped and reason != "stop":
            return "length" if reason == "length" else "aborted"
        return "tool_calls" if self._parser.num_calls else "stop"

    def _usage(self) -> Usage:
        """What the answer took; times are those at which the engine chose the tokens."""
        sequence, num_tokens = self._sequence, len(self._tokens)
        first, last = sequence.first_token_at, sequence.last_token_at
        if first is None or last is None:
            return Usage(sequence.num_prompt_tokens, num_tokens)
        rate = (sequence.num_new_tokens - 1) / (last - first) if last > first else 0.0
        return Usage(sequence.num_prompt_tokens, num_tokens, first - sequence.arrived_at, rate)

    def _logprob(self, place: int, token: int) -> TokenLogprob:
        top = [self._scored(top_id, logprob) for top_id, logprob in self._sequence.top_logprobs[place]]
        return self._scored(token, self._sequence.logprobs[place], tuple(top))

    def _scored(self, token: int, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        content = self._tokenizer.token_bytes(token)
        text = self._tokenizer.piece(token) if self._tokenizer.is_control(token) else content.decode(errors="replace")
        return TokenLogprob(token, text, content, logprob, top)


class AnswerStream(Iterator[Event]):
    """The events of one sequence, read while the engine steps; the last one is Finished.

    Closing it, or letting go of it, stops the answer at once and frees what it held.
    """

    def __init__(self, engine: Engine, sequence: Sequence, reader: AnswerReader) -> None:
        self._engine, self._sequence = engine, sequence
        self._events = _events(engine, sequence, reader)

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Stop the answer; no more events come."""
        self._events.close()
        self._engine.abort(self._sequence)

    def __del__(self) -> None:
        self.close()


def _events(engine: Engine, sequence: Sequence, reader: AnswerReader) -> Generator[Event, None, None]:
    """Yield the events of a sequence.

    It does not know its AnswerStream: in a circle of references that would be freed by the garbage collector, which may
    run in the middle of a step.
    """
    for token in engine.stream(sequence):
        yield from reader.push(token)
        if reader.is_stopped:
            break
    engine.abort(sequence)
    yield from reader.finish()


def collect(events: Iterator[Event]) -> Answer:
    """Join the events of an answer."""
    text, reasoning, finished = "", "", None
    calls: list[ToolCall] = []
    broken: list[BrokenToolCall] = []
    logprobs: list[TokenLogprob] = []
    for event in events:
        match event:
            case TextDelta():
                text += event.text
            case ReasoningDelta():
                reasoning += event.text
            case ToolCallDone():
                calls.append(event.call)
            case BrokenToolCall():
                broken.append(event)
                text += event.text
            case TokenLogprob():
                logprobs.append(event)
            case Finished():
                finished = event
    assert finished is not None
    return Answer(
        text,
        finished.finish_reason,
        finished.usage,
        tuple(calls),
        finished.raw_text,
        reasoning,
        tuple(broken),
        tuple(logprobs),
    )


def collect_all(streams: list[AnswerStream]) -> list[Answer]:
    """Join the events of answers that are written at the same time, reading them in turn."""
    events: list[list[Event]] = [[] for _ in streams]
    unread = dict(enumerate(streams))
    while unread:
        for row, stream in list(unread.items()):
            event = next(stream, None)
            if event is None:
                del unread[row]
            else:
                events[row].append(event)
    return [collect(iter(row)) for row in events]
