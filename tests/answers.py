"""What tokens of an answer are read as, in every way in which they may arrive."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from all_tokenizers import spelled

from mistral_local.tasks.answer_parser import AnswerParser
from mistral_local.tasks.outputs import (
    BrokenToolCall,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDone,
)
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.call_ids import CallIds, is_usable


@dataclass
class Read:
    """An answer as it was read; `text` holds no broken calls."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def all_text(self) -> str:
        return self.text + "".join(text for text, _ in self.broken)


def read(tokenizer: Tokenizer, parts: str, *, is_cut: bool = False, stop: tuple[str, ...] = ()) -> Read:
    """Parse `parts` (see spelled) in every chunking; all must give the same.

    The tokens are those that the tokenizer makes, then one per byte, then those of every way to cut a short text.
    """
    results = [summary(events_of(tokenizer, tokens, is_cut=is_cut, stop=stop)) for tokens in streams(tokenizer, parts)]
    for other in results[1:]:
        assert other == results[0]
    return results[0]


def events_of(
    tokenizer: Tokenizer,
    tokens: list[int],
    *,
    is_cut: bool = False,
    stop: tuple[str, ...] = (),
    known_ids: tuple[str, ...] = (),
    is_thinking: bool = False,
) -> list[Event]:
    parser = AnswerParser(tokenizer, stop=stop, call_ids=CallIds(known_ids), is_thinking=is_thinking)
    events = [event for token in tokens for event in parser.push(token)]
    events += parser.finish(is_cut=is_cut)
    check(events)
    assert parser.num_calls == sum(isinstance(event, ToolCallDone) for event in events)
    return events


def check(events: list[Event]) -> None:
    """What holds for the events of any answer."""
    calls = [event for event in events if isinstance(event, ToolCallDone)]
    assert [event.index for event in calls] == list(range(len(calls)))
    assert all(is_usable(event.call.id) for event in calls)
    assert len({event.call.id for event in calls}) == len(calls)
    pieces = [event for event in events if isinstance(event, ToolCallDelta)]
    for event in calls:
        own = [piece for piece in pieces if piece.id == event.call.id]
        assert "".join(piece.arguments for piece in own) == event.call.arguments
        assert {(piece.index, piece.name) for piece in own} == {(event.index, event.call.name)}
    done = {event.call.id for event in calls}
    broken = {event.id for event in events if isinstance(event, BrokenToolCall)}
    assert {piece.id for piece in pieces} <= done | broken
    assert not any(isinstance(event, TextDelta | ReasoningDelta) and not event.text for event in events)


def summary(events: list[Event]) -> Read:
    result = Read()
    for event in events:
        match event:
            case TextDelta(text):
                result.text += text
            case ReasoningDelta(text):
                result.reasoning += text
            case ToolCallDone(_, ToolCall(_, name, arguments)):
                result.calls += ((name, arguments),)
            case BrokenToolCall(text, reason):
                result.broken += ((text, reason),)
    return result


def streams(tokenizer: Tokenizer, parts: str) -> Iterator[list[int]]:
    """The token streams that spell `parts`."""
    natural = spelled(tokenizer, parts)
    yield natural
    yield [part for token in natural for part in _bytewise(tokenizer, token)]
    if tokenizer.file.suffix != ".json":
        return  # a piece encoded by itself would begin with a space
    runs = [list(run) for _, run in itertools.groupby(natural, tokenizer.is_control)]
    for at, run in enumerate(runs):
        if tokenizer.is_control(run[0]):
            continue
        before = list(itertools.chain.from_iterable(runs[:at]))
        after = list(itertools.chain.from_iterable(runs[at + 1 :]))
        for pieces in _chunkings(tokenizer.decode(run)):
            yield before + [token for piece in pieces for token in tokenizer.encode_text(piece)[1:]] + after


def _chunkings(text: str) -> Iterator[list[str]]:
    """All ways to cut a short text, or all ways to cut a long one once, and in threes."""
    if len(text) <= 8:
        for cuts in itertools.product([False, True], repeat=len(text) - 1):
            ends = [at + 1 for at, cut in enumerate(cuts) if cut]
            yield [text[a:b] for a, b in itertools.pairwise([0, *ends, len(text)])]
        return
    for at in range(1, min(len(text), 60)):
        yield [text[:at], text[at:]]
    yield [text[at : at + 3] for at in range(0, len(text), 3)]


def _bytewise(tokenizer: Tokenizer, token: int) -> list[int]:
    if tokenizer.is_control(token):
        return [token]
    if tokenizer.piece(token).startswith("\u2581"):
        return [token]  # its space may be the mark of a start, which bytes do not have
    return [_byte_token(tokenizer, byte) for byte in tokenizer.token_bytes(token)]


def _byte_token(tokenizer: Tokenizer, byte: int) -> int:
    if tokenizer.file.suffix == ".json":
        return 1000 + byte
    first = next(token for token in range(1000) if tokenizer.piece(token) == "<0x00>")
    return first + byte
