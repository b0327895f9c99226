"""From the tokens of one sequence to the events of one answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.errors import MistralLocalError
from mistral_local.tasks.outputs import Answer, Event, Finished, FinishReason, TextDelta, ToolCallDelta, Usage
from mistral_local.tokenizer.stop_strings import StopMatcher
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.parser import ToolCallParser


class AnswerParser:
    """Turns new tokens into events; text streams, function calls come when they are complete."""

    def __init__(self, tokenizer: Tokenizer, *, stop: tuple[str, ...], parses_tools: bool) -> None:
        self._tools = ToolCallParser(tokenizer) if parses_tools else None
        self._tokenizer = tokenizer
        self._detokenizer = tokenizer.detokenizer()
        self._stop = StopMatcher(stop)
        self._call_tokens: list[int] = []

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has appeared."""
        return self._stop.is_stopped

    def push(self, token: int) -> list[Event]:
        """Take one new token."""
        if self._call_tokens or (self._tools is not None and token == self._tools.marker_id):
            self._call_tokens.append(token)
            return []
        return _text_event(self._stop.push(self._detokenizer.push(token)))

    def finish(self, *, is_cut: bool) -> list[Event]:
        """No more tokens come: give out what was held back, calls that cannot be read as the text they are.

        Args:
            is_cut: whether something else than the model ended the answer.
        """
        if self.is_stopped:
            return []
        rest = _text_event(self._stop.push(self._detokenizer.finish()) + self._stop.finish())
        if not self._call_tokens or self._tools is None:
            return rest
        calls = self._tools.parse(self._call_tokens, is_cut=is_cut)
        if calls is None:
            return rest + _text_event(self._tokenizer.spell_out(self._call_tokens))
        return rest + [ToolCallDelta(call) for call in calls]


class AnswerStream(Iterator[Event]):
    """The events of one sequence, read while the engine steps; the last one is Finished.

    Closing it, or letting go of it, stops the answer at once and frees what it held.
    """

    def __init__(
        self,
        engine: Engine,
        sequence: Sequence,
        tokenizer: Tokenizer,
        *,
        stop: tuple[str, ...] = (),
        parses_tools: bool = False,
    ) -> None:
        self._engine, self._sequence = engine, sequence
        parser = AnswerParser(tokenizer, stop=stop, parses_tools=parses_tools)
        self._events = _events(engine, sequence, tokenizer, parser)

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Stop the answer; no more events come."""
        self._events.close()
        self._engine.abort(self._sequence)

    def __del__(self) -> None:
        self.close()


def _events(
    engine: Engine, sequence: Sequence, tokenizer: Tokenizer, parser: AnswerParser
) -> Generator[Event, None, None]:
    """Yield the events of a sequence.

    It does not know its AnswerStream: in a circle of references that would be freed by the garbage collector, which may
    run in the middle of a step.

    Raises:
        MistralLocalError: if the model's numbers went wrong.
    """
    num_tokens = 0
    for token in engine.stream(sequence):
        num_tokens += 1
        yield from parser.push(token)
        if parser.is_stopped:
            break
    engine.abort(sequence)
    if sequence.error is not None:
        raise MistralLocalError(sequence.error)
    last = parser.finish(is_cut=sequence.finish_reason != "stop")
    yield from last
    has_calls = any(isinstance(event, ToolCallDelta) for event in last)
    reason = _finish_reason(sequence, is_stopped=parser.is_stopped, has_calls=has_calls)
    yield Finished(reason, _usage(sequence, num_tokens), tokenizer.spell_out(sequence.new_tokens))


def collect(events: Iterator[Event]) -> Answer:
    """Join the events of an answer."""
    text, calls, finished = "", [], None
    for event in events:
        match event:
            case TextDelta():
                text += event.text
            case ToolCallDelta():
                calls.append(event.call)
            case Finished():
                finished = event
    assert finished is not None
    return Answer(text, finished.finish_reason, finished.usage, tuple(calls), finished.raw_text)


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


def _usage(sequence: Sequence, num_tokens: int) -> Usage:
    """What an answer of so many tokens took; times are those at which the engine chose the tokens."""
    first, last = sequence.first_token_at, sequence.last_token_at
    if first is None or last is None:
        return Usage(sequence.num_prompt_tokens, num_tokens)
    rate = (sequence.num_new_tokens - 1) / (last - first) if last > first else 0.0
    return Usage(sequence.num_prompt_tokens, num_tokens, first - sequence.arrived_at, rate)


def _text_event(text: str) -> list[Event]:
    return [TextDelta(text)] if text else []


def _finish_reason(sequence: Sequence, *, is_stopped: bool, has_calls: bool) -> FinishReason:
    if is_stopped:
        return "stop"
    if sequence.finish_reason == "length":
        return "length"
    if sequence.finish_reason == "aborted":
        return "aborted"
    return "tool_calls" if has_calls else "stop"
