"""A Python function that a model may call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

import jsonschema
from jsonschema.exceptions import best_match
from pydantic import BaseModel, ValidationError

from mistral_local.errors import ToolError
from mistral_local.tools.call_text import NotACallError, check_name, is_no_arguments
from mistral_local.tools.function_schema import arguments_model, description_of, json_schema
from mistral_local.tools.json_text import read_json


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with what a model is told about it; made by @tool.

    Attributes:
        parameters: JSON schema of the arguments.
        timeout_s: most seconds of one call; None leaves it to the loop.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any]
    timeout_s: float | None
    _model: type[BaseModel]

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **named)

    def definition(self) -> dict[str, Any]:
        """The tool as the Mistral API takes it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def arguments(self, text: str) -> dict[str, Any]:
        """Check the arguments of a call against the schema and make them what the function takes.

        Args:
            text: JSON, as the model wrote it.

        Raises:
            ToolError: if they do not fit; the message is meant for the model.
        """
        text = "{}" if is_no_arguments(text) else text
        try:
            value = read_json(text)
        except ValueError as error:
            raise ToolError(f"the arguments are no JSON: {error}") from error
        worst = best_match(jsonschema.Draft202012Validator(self.parameters).iter_errors(value))
        if worst is not None:
            where = ".".join(map(str, worst.absolute_path))
            raise ToolError(f"the arguments do not fit: {where + ': ' if where else ''}{worst.message}")
        try:
            model = self._model.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise ToolError(f"the arguments do not fit: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        fields = type(model).model_fields
        return {str(fields[name].alias): getattr(model, name) for name in fields if name in model.model_fields_set}


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout_s: float | None = None
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function with type hints and a docstring.

        @tool
        def weather(city: Annotated[str, "name of a city"], unit: Literal["C", "F"] = "C") -> str:
            "Tell what the weather is like."

    Args:
        name: of the tool; None takes the function's.
        description: what the model is told; None takes the docstring's text.
        timeout_s: most seconds of one call; None leaves it to the loop.

    Raises:
        ToolError: if the function cannot be called by a model.
    """

    def make(function: Callable[..., Any]) -> Tool:
        own: str = name or str(getattr(function, "__name__", ""))
        try:
            check_name(own)
        except NotACallError as error:
            raise ToolError(f"tool {own!r}: a name has 1 to 64 of a-z, A-Z, 0-9, _ and -") from error
        about = description_of(function) if description is None else description
        model = arguments_model(function, own)
        return Tool(own, about, json_schema(model), function, timeout_s, model)

    return make if function is None else make(function)
