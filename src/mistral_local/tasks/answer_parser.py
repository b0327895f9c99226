"""From tokens to what an answer says: text, reasoning and function calls, while they arrive."""

from __future__ import annotations

from collections.abc import Sequence

from mistral_local.tasks.outputs import Event, ReasoningDelta, TextDelta, ToolCallDone
from mistral_local.tokenizer.stop_strings import StopMatcher
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.call_ids import CallIds
from mistral_local.tools.named_call import ARGS, CALL_ID
from mistral_local.tools.parser import MARKER, ToolCallParser

BEGIN_THINK, END_THINK = "[THINK]", "[/THINK]"
_DIVIDERS = {MARKER, CALL_ID, ARGS, BEGIN_THINK, END_THINK}


class AnswerParser:
    """Turns new tokens into events; the only reader of answers, whoever steps the engine.

    Control tokens divide the answer into text, reasoning and calls.  A call ends the reasoning that is open.  Stop strings
    are looked for in the text only.

    Args:
        stop: texts that end the answer; they are no part of it.
        call_ids: ids of the conversation; None for tasks without calls and reasoning, where all is text.
        continues_text: whether the answer goes on in the middle of a text, so that its first space belongs to it.
        is_thinking: whether the prompt ends inside a reasoning.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        stop: tuple[str, ...] = (),
        call_ids: CallIds | None = None,
        continues_text: bool = False,
        is_thinking: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._ids = call_ids
        self._stop = StopMatcher(stop)
        self._detokenizer = tokenizer.detokenizer(continues_text=continues_text)
        self._calls: ToolCallParser | None = None
        self._is_thinking = is_thinking
        self._num_calls = 0
        self._drops_space = False  # between a call and what follows

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has appeared; nothing comes after it."""
        return self._stop.is_stopped

    @property
    def num_calls(self) -> int:
        """Complete calls so far."""
        return self._num_calls

    def push(self, token: int) -> list[Event]:
        """Take one new token."""
        if self.is_stopped:
            return []
        if self._ids is None or not self._tokenizer.is_control(token):
            return self._text(self._detokenizer.push(token))
        piece = self._tokenizer.piece(token)
        events: list[Event] = []
        if piece in _DIVIDERS:
            events += self._text(self._end_segment())
        if piece in (MARKER, BEGIN_THINK, END_THINK):
            events += self._leave()
            self._is_thinking = piece == BEGIN_THINK
            self._calls = ToolCallParser(self._ids, index=self._num_calls) if piece == MARKER else None
        elif self._calls is not None:
            self._calls.control(piece)
        return events

    def finish(self, *, is_cut: bool) -> list[Event]:
        """No more tokens come: give out what was held back.

        Args:
            is_cut: whether something else than the model ended the answer.
        """
        if self.is_stopped:
            return []
        return self._text(self._end_segment()) + self._leave(is_cut=is_cut)

    def _end_segment(self) -> str:
        """The rest of an unfinished character; what follows a control token is a text of its own."""
        rest = self._detokenizer.finish()
        self._detokenizer = self._tokenizer.detokenizer()
        return rest

    def _text(self, text: str) -> list[Event]:
        """Pass text on to where it belongs."""
        if not text:
            return []
        if self._calls is None:
            return self._plain(text)
        events, rest = self._calls.text(text)
        noted = self._note(events)
        if self._calls.is_closed:
            noted += self._note(self._calls.finish(is_cut=False))
            self._calls, self._drops_space = None, True
            noted += self._plain(rest)
        return noted

    def _plain(self, text: str) -> list[Event]:
        if self._drops_space:
            text = text.lstrip()
            self._drops_space = not text
        if not text:
            return []
        if self._is_thinking:
            return [ReasoningDelta(text)]
        return _text_event(self._stop.push(text))

    def _leave(self, *, is_cut: bool = False) -> list[Event]:
        """End the text or the call that is open."""
        self._drops_space = False
        if self._calls is not None:
            return self._note(self._calls.finish(is_cut=is_cut))
        return _text_event("" if self.is_stopped else self._stop.finish())

    def _note(self, events: Sequence[Event]) -> list[Event]:
        self._num_calls += sum(isinstance(event, ToolCallDone) for event in events)
        return list(events)


def ends_in_reasoning(tokenizer: Tokenizer, prompt: list[int]) -> bool:
    """Whether a prompt leaves its last [THINK] open, so that the answer begins inside of it."""
    last = next((token for token in reversed(prompt) if tokenizer.is_control(token)), None)
    return last is not None and last == tokenizer.control_id(BEGIN_THINK)


def _text_event(text: str) -> list[Event]:
    return [TextDelta(text)] if text else []
