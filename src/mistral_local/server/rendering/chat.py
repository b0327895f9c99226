"""Answers of chat and fill-in-the-middle: whole, and as the chunks of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from mistral_local.server.rendering.common import FINISH_REASONS, Envelope, usage_of
from mistral_local.tasks.outputs import (
    Answer,
    BrokenToolCall,
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDone,
    Usage,
)

Json = dict[str, Any]


def chat_envelope(model: str) -> Envelope:
    """What stands around an answer of chat."""
    return Envelope(model, "chat.completion", "chat.completion.chunk")


def chat_completion(envelope: Envelope, answers: list[Answer]) -> Json:
    """Answers to one conversation, whole."""
    choices = [_choice(index, answer) for index, answer in enumerate(answers)]
    return envelope.whole(choices, usage_of((answer.usage for answer in answers), num_choices=len(answers)))


async def chat_chunks(
    envelope: Envelope, events: AsyncIterator[tuple[int, Event]], num_choices: int, *, wants_usage_chunk: bool
) -> AsyncIterator[Json]:
    """Answers to one conversation, as they are written.

    The usage stands on the last chunk of a choice, as Mistral has it, unless a chunk of its own is wanted.
    """
    for index in range(num_choices):
        yield envelope.chunk([_delta(index, {"role": "assistant", "content": ""})])
    scores: list[list[Json]] = [[] for _ in range(num_choices)]
    usages: dict[int, Usage] = {}
    async for index, event in events:
        match event:
            case TokenLogprob():
                scores[index].append(logprob_entry(event))
            case Finished():
                usages[index] = event.usage
                is_last = len(usages) == num_choices
                usage = usage_of((usages[place] for place in sorted(usages)), num_choices=num_choices)
                choice = _delta(index, {"content": ""}, scores[index], finish_reason=event)
                yield envelope.chunk([choice], usage if is_last and not wants_usage_chunk else None)
                if is_last and wants_usage_chunk:
                    yield envelope.chunk([], usage)
            case _:
                if delta := _delta_of(event):
                    yield envelope.chunk([_delta(index, delta, scores[index])])
                    scores[index] = []


def logprob_entry(score: TokenLogprob) -> Json:
    """A scored token; clients of Mistral drop all scores of an answer unless each has its token_id."""
    entry = _score(score)
    return {**entry, "top_logprobs": [_score(top) for top in score.top]}


def _score(score: TokenLogprob) -> Json:
    return {
        "token": score.text,
        "token_id": score.token_id,
        "logprob": score.logprob,
        "bytes": list(score.bytes),
    }


def _choice(index: int, answer: Answer) -> Json:
    message: Json = {"role": "assistant", "content": answer.text, "tool_calls": _calls(answer.tool_calls) or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    choice: Json = {"index": index, "message": message, "finish_reason": FINISH_REASONS[answer.finish_reason]}
    if answer.logprobs:
        choice["logprobs"] = {"content": [logprob_entry(score) for score in answer.logprobs]}
    return choice


def _calls(calls: Iterable[ToolCall]) -> list[Json]:
    return [_call(index, call) for index, call in enumerate(calls)]


def _call(index: int, call: ToolCall) -> Json:
    return {**call.as_message_part(), "index": index}


def _delta(index: int, delta: Json, scores: list[Json] | None = None, *, finish_reason: Finished | None = None) -> Json:
    reason = None if finish_reason is None else FINISH_REASONS[finish_reason.finish_reason]
    choice: Json = {"index": index, "delta": delta, "finish_reason": reason}
    return {**choice, "logprobs": {"content": scores}} if scores else choice


def _delta_of(event: Event) -> Json | None:
    """What an event adds to the message; a call comes whole, because clients of Mistral read no parts of one."""
    match event:
        case TextDelta(text) | BrokenToolCall(text):
            return {"content": text}
        case ReasoningDelta(text):
            return {"reasoning_content": text}
        case ToolCallDone(index, call):
            return {"tool_calls": [_call(index, call)]}
    return None
