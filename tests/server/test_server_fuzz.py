"""Whatever a client sends, it gets an answer below 500: random bodies, near those that are meant."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import TOOL, USER, Live

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        ["any", "auto", "none", "json_object", "user", "assistant", "tool", "base64", "", "\x00", "[INST]"]
    ),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CHUNK = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "thinking", "x"])},
    optional={"text": ANYTHING, "image_url": ANYTHING, "thinking": ANYTHING},
)
CALL = st.fixed_dictionaries(
    {},
    optional={
        "id": ANYTHING,
        "type": ANYTHING,
        "index": ANYTHING,
        "function": st.fixed_dictionaries({}, optional={"name": ANYTHING, "arguments": ANYTHING}) | ANYTHING,
    },
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer", "x"])},
    optional={
        "content": ANYTHING | st.lists(CHUNK, max_size=2),
        "tool_calls": ANYTHING | st.lists(CALL, max_size=2),
        "tool_call_id": ANYTHING,
        "name": ANYTHING,
        "prefix": ANYTHING,
        "reasoning_content": ANYTHING,
    },
)
SCHEMA = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer"}, {"enum": ["a", 1]}, {"$ref": "#"}, {"type": 5}, True]),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["object", "array"])},
        optional={
            "properties": st.dictionaries(st.text(max_size=5), inner, max_size=3),
            "items": inner,
            "anyOf": st.lists(inner),
            "required": ANYTHING,
            "pattern": ANYTHING,
            "minItems": ANYTHING,
        },
    ),
    max_leaves=5,
)
FIELDS: dict[str, Any] = {
    "temperature": SCALARS,
    "top_p": SCALARS,
    "max_tokens": SCALARS | st.integers(0, 4),
    "min_tokens": SCALARS,
    "stop": ANYTHING,
    "n": SCALARS | st.integers(1, 3),
    "seed": SCALARS,
    "logprobs": SCALARS,
    "top_logprobs": SCALARS,
    "logit_bias": ANYTHING,
    "stream": SCALARS,
    "regex": SCALARS,
    "lark": SCALARS,
    "presence_penalty": SCALARS,
}
CHAT = FIELDS | {
    "messages": st.just(USER) | st.lists(MESSAGE, max_size=3) | ANYTHING,
    "tools": st.just([TOOL])
    | ANYTHING
    | st.lists(
        st.fixed_dictionaries(
            {
                "type": st.just("function"),
                "function": st.fixed_dictionaries({"name": ANYTHING, "parameters": SCHEMA | ANYTHING}),
            }
        ),
        max_size=2,
    ),
    "tool_choice": ANYTHING,
    "parallel_tool_calls": SCALARS,
    "reasoning_effort": SCALARS,
    "safe_prompt": SCALARS,
    "response_format": ANYTHING
    | st.fixed_dictionaries(
        {
            "type": st.just("json_schema"),
            "json_schema": st.fixed_dictionaries({"name": ANYTHING, "schema": SCHEMA | ANYTHING}),
        }
    ),
}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/chat/completions": CHAT,
    "/v1/fim/completions": FIELDS | {"prompt": ANYTHING, "suffix": ANYTHING},
    "/v1/completions": FIELDS | {"prompt": ANYTHING, "suffix": SCALARS, "echo": SCALARS, "best_of": SCALARS},
    "/v1/embeddings": {"input": ANYTHING, "encoding_format": SCALARS, "dimensions": SCALARS, "pooling": SCALARS},
    "/v1/tokenize": CHAT | {"prompt": SCALARS, "suffix": SCALARS},
    "/v1/moderations": {"input": ANYTHING},
    "/v1/chat/moderations": {
        "input": st.lists(MESSAGE, max_size=3) | st.lists(st.lists(MESSAGE, max_size=2)) | ANYTHING
    },
}


def run(live: Live, path: str, num_examples: int) -> None:
    strategy = ANYTHING | st.fixed_dictionaries({}, optional=BODIES[path])
    if "messages" in BODIES[path]:
        messages = {"messages": st.just(USER) | st.lists(MESSAGE, max_size=3)}
        rest = {name: values for name, values in BODIES[path].items() if name != "messages"}
        strategy |= st.fixed_dictionaries(messages, optional=rest)

    @settings(max_examples=num_examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(strategy)
    def check(body: Any) -> None:
        if isinstance(body, dict):
            body = {"max_tokens": 3, **body} if "max_tokens" in BODIES[path] else body
        response = live.http.post(path, json=body)
        assert response.status_code < 500, (body, response.text)
        if response.status_code != 200:
            assert response.json()["error"]["message"]

    check()


@pytest.mark.parametrize("path", BODIES)
def test_random_bodies_get_no_5xx(live: Live, path: str) -> None:
    run(live, path, 60)


@pytest.mark.long
@pytest.mark.parametrize("path", BODIES)
def test_many_random_bodies_get_no_5xx(live: Live, path: str) -> None:
    run(live, path, 1000)
