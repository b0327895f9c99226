"""From the signature of a Python function to the JSON schema of its arguments, by pydantic."""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

from fire import docstrings
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, create_model
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.fields import FieldInfo

from mistral_local.errors import ToolError

_SCHEMA_MAPS = ("properties", "$defs", "patternProperties")
_ORDER = ("type", "description", "properties", "required")
_VALUES = ("default", "const", "enum", "examples")


def arguments_model(function: Callable[..., Any], name: str) -> type[BaseModel]:
    """Make the pydantic model of a function's arguments; its fields are the parameters, by alias.

    Raises:
        ToolError: if a parameter has no type, a type without a JSON schema, or cannot be passed by name.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
    except (NameError, TypeError, ValueError) as error:
        raise ToolError(f"tool {name}: its type hints cannot be read: {error}") from error
    described = described_arguments(function)
    fields: dict[str, Any] = {}
    for place, parameter in enumerate(parameters.values()):
        _check(parameter, name, has_type=parameter.name in hints)
        hint = hints[parameter.name]
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        about = described.get(parameter.name) or _text_of(hint)
        # Parameters may be called as methods of pydantic's models are; aliases may.
        fields[f"argument_{place}"] = (hint, Field(default, alias=parameter.name, description=about or None))
    try:
        return create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        raise ToolError(f"tool {name}: {' '.join(str(error).split())}") from error


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model without the titles that only repeat names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a default that JSON cannot hold is left out, as it should be
        schema = model.model_json_schema(by_alias=True)
    stripped: dict[str, Any] = _without_titles({"properties": {}, **schema})
    del stripped["additionalProperties"]  # other arguments are refused all the same
    return stripped


def described_arguments(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring says of each argument."""
    parsed = docstrings.parse(inspect.getdoc(function) or "")
    return {argument.name: argument.description or "" for argument in parsed.args or []}


def description_of(function: Callable[..., Any]) -> str:
    """What the docstring says before its first section."""
    parsed = docstrings.parse(inspect.getdoc(function) or "")
    return "\n\n".join(part.strip() for part in (parsed.summary, parsed.description) if part)


def _check(parameter: inspect.Parameter, name: str, *, has_type: bool) -> None:
    if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
        raise ToolError(f"tool {name}: parameter {parameter} cannot be passed by its name")
    if not has_type:
        raise ToolError(f"tool {name}: parameter {parameter.name} has no type hint")


def _text_of(hint: Any) -> str:
    """The first plain text in Annotated[T, ...], unless a Field describes it already."""
    if get_origin(hint) is not Annotated:
        return ""
    metadata = get_args(hint)[1:]
    for item in metadata:
        if isinstance(item, FieldInfo) and item.description:
            return item.description
    return next((item for item in metadata if isinstance(item, str)), "")


def _without_titles(schema: Any) -> Any:
    """Remove `title` where it belongs to a schema, not where a property has that name; the usual order of keys."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result: dict[str, Any] = {}
    for key in sorted(schema, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER)):
        value = schema[key]
        if key == "title" and isinstance(value, str):
            continue
        if key in _SCHEMA_MAPS and isinstance(value, Mapping):
            result[key] = {name: _without_titles(inner) for name, inner in value.items()}
        else:
            result[key] = value if key in _VALUES else _without_titles(value)
    return result
