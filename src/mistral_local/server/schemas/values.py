"""Types of fields: as strict as JSON is, so that "5" is no number and true no count; null is as if not given."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, Strict, model_validator

Flag = Annotated[bool, Strict()]
Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Text = Annotated[str, Strict()]
TokenIds = Annotated[list[Annotated[int, Strict(), Field(ge=0, lt=2**31)]], Field(min_length=1)]
Prompt = Text | TokenIds
Prompts = Prompt | Annotated[list[Text], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]

NoEffect = Annotated[Any, Field(description="accepted, because clients send it; it has no effect on the answer")]


class Body(BaseModel):
    """A request's body; fields that it does not know are refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def leave_out_null(cls, fields: Any) -> Any:
        """Null is as if not given, whatever the field is called: clients send it for options that nobody has set."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


def each_prompt(prompts: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """One text, or its token ids, or several of either, as several."""
    if isinstance(prompts, str):
        return [prompts]
    numbers = [prompt for prompt in prompts if isinstance(prompt, int)]
    return [numbers] if numbers else [prompt for prompt in prompts if not isinstance(prompt, int)]


def given(body: BaseModel, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of these names that are not null."""
    return {name: value for name in names if (value := getattr(body, name)) is not None}
