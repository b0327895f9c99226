"""Requests over HTTP reach the engine as mistral_common's own types encode to, for every tokenizer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from all_tokenizers import ALL, WITH_CALLS
from hypothesis import event, given, settings
from hypothesis import strategies as st
from live import Live, running
from mistral_common.protocol.fim.request import FIMRequest
from mistral_common.protocol.instruct.tool_calls import Function, Tool
from test_request_parity import (
    PARAMETERS,
    TEXTS,
    Turn,
    as_dicts,
    as_types,
    checkpoint,
    conversations,
    encoded,
    nine,
    reference,
)

from mistral_local.errors import EngineBusyError

Served = tuple[str, Live, list[list[int]]]


@pytest.fixture(scope="module", params=ALL)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A name of ALL, a server of a model with that tokenizer, and the prompts that its engine was given."""
    folder = checkpoint(tmp_path_factory.mktemp("model"), request.param)
    prompts: list[list[int]] = []

    def add(tokens: list[int], params: Any) -> Any:
        prompts.append(list(tokens))
        raise EngineBusyError("taken")

    with running(engine={"folder": folder, "max_context": 32768, "kv_memory": "8MB"}) as live:
        live.engine.add = add  # type: ignore[method-assign]
        yield request.param, live, prompts


def reached(served: Served, path: str, body: dict[str, Any]) -> list[int] | None:
    """The ids that the engine was given; None if the request was refused."""
    _, live, prompts = served
    prompts.clear()
    response = live.http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == (429 if prompts else 400), response.text
    return prompts[0] if prompts else None


@settings(max_examples=12, deadline=None, derandomize=True)
@given(conversation=conversations(), has_tools=st.booleans())
def test_a_conversation_reaches_the_engine_as_mistral_common_encodes_it(
    served: Served, conversation: tuple[str | None, list[Turn]], has_tools: bool
) -> None:
    name, live, _ = served
    version = live.state.llm.tokenizer.version
    system, turns = conversation
    if version == "v1":
        for turn in turns:
            turn.calls = []
    reasons = version in ("v13", "v15")
    ids = nine(sum(len(turn.calls) for turn in turns))
    function = {"name": "get_weather", "description": "Wetter für [INST]", "parameters": PARAMETERS}
    tools = {"tools": [{"type": "function", "function": function}]} if has_tools else {}
    typed_tools = [Tool(function=Function(**function))] if has_tools else None
    expected = encoded(name, as_types(system, turns, ids, reasons=reasons), tools=typed_tools)
    event("served" if expected is not None else "refused")
    body = {"messages": as_dicts(system, turns, ids, reasons=reasons), "max_tokens": 4, **tools}
    assert reached(served, "/v1/chat/completions", body) == expected


@settings(max_examples=8, deadline=None, derandomize=True)
@given(prompt=TEXTS, suffix=TEXTS)
def test_a_gap_reaches_the_engine_as_mistral_common_encodes_it(served: Served, prompt: str, suffix: str) -> None:
    name = served[0]
    expected = None
    if name in WITH_CALLS:
        expected = list(reference(name).encode_fim(FIMRequest(prompt=prompt, suffix=suffix)).tokens)
    body = {"prompt": prompt, "suffix": suffix, "max_tokens": 4}
    assert reached(served, "/v1/fim/completions", body) == expected
