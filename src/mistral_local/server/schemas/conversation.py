"""Messages and tools as OpenAPI describes them; mistral_common validates what comes, and says what it refuses."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_ROLES = ["system", "developer", "user", "assistant", "tool"]


def _object(required: tuple[str, ...], **properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


_CHUNK = _object(("type",), type={"enum": ["text", "thinking"]}, text=_TEXT, thinking=_TEXT)
_CALL = _object(
    ("id", "function"),
    id=_TEXT,
    type={"const": "function"},
    function=_object(("name", "arguments"), name=_TEXT, arguments={"type": ["string", "object"]}),
)
_FUNCTION = _object(
    ("name",),
    name={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
    description=_TEXT,
    parameters={"type": "object"},
    strict={"type": "boolean"},
)

Message = Annotated[
    Json,
    WithJsonSchema(
        _object(
            ("role",),
            role={"enum": _ROLES},
            content={"anyOf": [_TEXT, {"type": "array", "items": _CHUNK}, {"type": "null"}]},
            tool_calls={"type": "array", "items": _CALL},
            tool_call_id=_TEXT,
            name=_TEXT,
            prefix={"type": "boolean"},
            reasoning_content=_TEXT,
        )
    ),
]
"""A message of a conversation."""

Tool = Annotated[Json, WithJsonSchema(_object(("type", "function"), type={"const": "function"}, function=_FUNCTION))]
"""A function that the model may call."""

ToolChoice = Annotated[
    str | Json,
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["auto", "none", "any", "required"]},
                _object(
                    ("type", "function"),
                    type={"const": "function"},
                    function=_object(("name",), name={"type": "string"}),
                ),
            ]
        }
    ),
]
"""Whether the answer may, must or must not be a call, or which."""

ResponseFormat = Annotated[
    Json,
    WithJsonSchema(
        _object(
            ("type",),
            type={"enum": ["text", "json_object", "json_schema"]},
            json_schema=_object(("name", "schema"), name=_TEXT, schema={"type": "object"}, strict={"type": "boolean"}),
        )
    ),
]
"""The form of the answer's text."""
