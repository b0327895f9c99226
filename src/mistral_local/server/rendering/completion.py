"""Answers of text completion, in OpenAI's older form: whole, and as the chunks of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from mistral_local.server.rendering.common import FINISH_REASONS, Envelope, usage_of
from mistral_local.tasks.outputs import Answer, Event, Finished, TextDelta, TokenLogprob, Usage

Json = dict[str, Any]


def completion_envelope(model: str) -> Envelope:
    """What stands around a completed text."""
    return Envelope(model, "text_completion", "text_completion")


def text_completion(envelope: Envelope, answers: list[Answer], *, num_choices: int, heads: Sequence[str]) -> Json:
    """Completed texts.

    Args:
        num_choices: so many in a row go on with the same prompt.
        heads: what stands before each.
    """
    choices = [
        _choice(index, heads[index] + answer.text, list(answer.logprobs), FINISH_REASONS[answer.finish_reason])
        for index, answer in enumerate(answers)
    ]
    return envelope.whole(choices, usage_of((answer.usage for answer in answers), num_choices=num_choices))


async def completion_chunks(
    envelope: Envelope,
    events: AsyncIterator[tuple[int, Event]],
    *,
    num_choices: int,
    heads: Sequence[str],
    wants_usage_chunk: bool,
) -> AsyncIterator[Json]:
    """Completed texts, as they are written; arguments as in text_completion() and chat_chunks()."""
    scores: list[list[TokenLogprob]] = [[] for _ in heads]
    offsets = [len(head) for head in heads]
    usages: dict[int, Usage] = {}
    for index, head in enumerate(heads):
        if head:
            yield envelope.chunk([_choice(index, head, [], None)])
    async for index, event in events:
        match event:
            case TokenLogprob():
                scores[index].append(event)
            case TextDelta(text):
                yield envelope.chunk([_choice(index, text, scores[index], None, offset=offsets[index])])
                scores[index] = []
                offsets[index] += len(text)
            case Finished():
                usages[index] = event.usage
                is_last = len(usages) == len(heads)
                usage = usage_of((usages[place] for place in sorted(usages)), num_choices=num_choices)
                reason = FINISH_REASONS[event.finish_reason]
                choice = _choice(index, "", scores[index], reason, offset=offsets[index])
                yield envelope.chunk([choice], usage if is_last and not wants_usage_chunk else None)
                if is_last and wants_usage_chunk:
                    yield envelope.chunk([], usage)


def _choice(index: int, text: str, scores: list[TokenLogprob], reason: str | None, *, offset: int = 0) -> Json:
    logprobs = _logprobs(scores, offset) if scores else None
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(scores: list[TokenLogprob], offset: int) -> Json:
    offsets = []
    for score in scores:
        offsets.append(offset)
        offset += len(score.text)
    return {
        "tokens": [score.text for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [{top.text: top.logprob for top in score.top} for score in scores],
        "text_offset": offsets,
    }
