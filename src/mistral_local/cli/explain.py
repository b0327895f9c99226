"""mistral-local explain: the tokens of a request, and how an answer would be read."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistral_local.cli.console import Color, Console
from mistral_local.cli.conversation import read_json
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.errors import UsageError

if TYPE_CHECKING:
    from mistral_local.inspect.explain import ExplainedRequest
    from mistral_local.tasks.outputs import Event


def explain(
    request: str | None = None,
    *,
    model: str | None = None,
    answer: str | None = None,
    cut: bool = False,
    json: bool = False,
    color: Color = "auto",
) -> None:
    """show the tokens of a request, and how an answer would be read

    Args:
        request: JSON file with messages and tools, or prompt and suffix, as in the Mistral API
        model: checkpoint folder, or its name in $MISTRAL_MODEL, whose tokenizer is taken; without it the bundled demo checkpoint's
        answer: what a model wrote, control tokens by their names, to be read as the answer
        cut: whether a limit ended that answer
        json: print one JSON object
        color: when to use colours; auto means on a terminal, unless NO_COLOR is set
    """
    if request is None and answer is None:
        raise UsageError("explain needs a REQUEST.json, or --answer TEXT")
    content = read_json(Path(request)) if request is not None else None
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{request}: expected a JSON object with messages or a prompt")
    from mistral_local.demo.locate import demo_checkpoint
    from mistral_local.inspect.explain import explain_answer, explain_request
    from mistral_local.tokenizer.find import find_tokenizer
    from mistral_local.tokenizer.tokenizer import Tokenizer

    console = Console(color)
    tokenizer = Tokenizer(find_tokenizer(find_model_folder(model) or demo_checkpoint()).file)
    explained = explain_request(tokenizer, content) if content is not None else None
    events = explain_answer(tokenizer, answer, is_cut=cut) if answer is not None else None
    if json:
        fields: dict[str, Any] = {"tokenizer": tokenizer.version}
        if explained is not None:
            fields |= asdict(explained)
        if events is not None:
            fields["answer"] = [_event_fields(event) for event in events]
        console.answer(json_format.dumps(fields, ensure_ascii=False) + "\n")
        return
    console.note(f"tokenizer {tokenizer.version}, {tokenizer.file.name}")
    if explained is not None:
        _show_request(console, explained)
    for event in events or ():
        fields = _event_fields(event)
        console.answer(f"{fields.pop('event')} {json_format.dumps(fields, ensure_ascii=False)}\n")


def _show_request(console: Console, explained: ExplainedRequest) -> None:
    """A line per token under a line per source; control tokens stand in front of the others."""
    source = None
    for place, token in enumerate(explained.tokens):
        if token.source != source:
            source = token.source
            console.answer(f"{source}\n")
        piece = token.piece if token.is_control else f"  {json_format.dumps(token.piece, ensure_ascii=False)}"
        console.answer(f"{place:7} {token.id:7}  {piece}\n")
    console.note(f"{len(explained.tokens)} tokens")
    for outer, inner in explained.ids.items():
        console.note(f"the model sees the id {outer} as {inner}")
    for note in explained.notes:
        console.note(note)


def _event_fields(event: Event) -> dict[str, Any]:
    """An event by name and fields."""
    return {"event": type(event).__name__, **asdict(event)}
