"""Functions as tools: their schema, what of a model's arguments is accepted, and how calls are run."""

import asyncio
import dataclasses
import json
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import jsonschema
import pytest
from pydantic import BaseModel, Field

from mistral_local.errors import ToolError
from mistral_local.tools.call import ToolCall
from mistral_local.tools.dispatch import Dispatcher, ToolResult, as_text
from mistral_local.tools.exec_python import make_exec_python
from mistral_local.tools.registry import ToolRegistry
from mistral_local.tools.tool import Tool, tool


@dataclasses.dataclass
class Place:
    city: str
    country: str = "FR"


class Trip(BaseModel):
    title: str
    days: int = Field(ge=1, le=30)


@tool
def plan(
    place: Place,
    trip: Trip,
    unit: Literal["C", "F"] = "C",
    note: Annotated[str | None, "for the guide"] = None,
    schema: Optional[list[float]] = None,  # noqa: UP045 - people write it so
    title: Annotated[str, Field(max_length=5)] = "t",
) -> str:
    """Plan a trip.

    It takes a while.

    Args:
        unit: of temperatures
    """
    return f"{place} {trip} {unit} {note} {schema} {title}"


def call(name: str, /, **arguments: Any) -> ToolCall:
    return ToolCall("abcdefghi", name, json.dumps(arguments))


def run(registry: ToolRegistry, *calls: ToolCall, timeout_s: float = 5, max_chars: int = 1000) -> list[ToolResult]:
    """Run calls on both roads, which must agree."""
    dispatcher = Dispatcher(registry, timeout_s=timeout_s, max_chars=max_chars)
    plain, looped = dispatcher.run(calls), asyncio.run(dispatcher.run_async(calls))
    assert [dataclasses.replace(r, duration_s=0) for r in plain] == [
        dataclasses.replace(r, duration_s=0) for r in looped
    ]
    return plain


def test_the_definition_is_a_whole_schema_of_the_signature() -> None:
    assert plan.definition() == {
        "type": "function",
        "function": {
            "name": "plan",
            "description": "Plan a trip.\n\nIt takes a while.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"$ref": "#/$defs/Place"},
                    "trip": {"$ref": "#/$defs/Trip"},
                    "unit": {"type": "string", "description": "of temperatures", "default": "C", "enum": ["C", "F"]},
                    "note": {
                        "description": "for the guide",
                        "anyOf": [{"type": "string"}, {"type": "null"}],
                        "default": None,
                    },
                    "schema": {
                        "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}],
                        "default": None,
                    },
                    "title": {"type": "string", "default": "t", "maxLength": 5},
                },
                "required": ["place", "trip"],
                "$defs": {
                    "Place": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}, "country": {"type": "string", "default": "FR"}},
                        "required": ["city"],
                        "additionalProperties": False,
                    },
                    "Trip": {
                        "type": "object",
                        "properties": {
                            "title": {"type": "string"},
                            "days": {"type": "integer", "maximum": 30, "minimum": 1},
                        },
                        "required": ["title", "days"],
                    },
                },
            },
        },
    }
    jsonschema.Draft202012Validator.check_schema(plan.parameters)


def test_arguments_become_what_the_function_takes() -> None:
    text = '{"place": {"city": "Nice"}, "trip": {"title": "t", "days": 3}, "schema": [1, 2.5]}'
    assert plan.arguments(text) == {"place": Place("Nice"), "trip": Trip(title="t", days=3), "schema": [1.0, 2.5]}
    assert plan(**plan.arguments(text)).endswith("C None [1.0, 2.5] t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "'place' is a required property"),
        ('{"place": {"city": "x"}}', "'trip' is a required property"),
        ('{"place": {"city": 5}, "trip": {"title": "", "days": 1}}', "place.city: 5 is not of type 'string'"),
        ('{"place": {"city": ""}, "trip": {"title": "", "days": 31}}', "trip.days: 31 is greater than the maximum"),
        ('{"place": {"city": ""}, "trip": {"title": "", "days": 1}, "unit": "K"}', "unit: 'K' is not one of"),
        ('{"place": {"city": ""}, "trip": {"title": "", "days": 1}, "more": 1}', "more: Extra inputs"),
        ("[1]", "is not of type 'object'"),
        ("{", "no JSON"),
        ('{"place": NaN}', "no JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_reason(arguments: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        plan.arguments(arguments)


def untyped(x):  # type: ignore[no-untyped-def]
    return x


def starred(*x: int) -> int:
    return len(x)


def unheard(x: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


def unsuited(x: threading.Lock) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (untyped, "tool untyped: parameter x has no type hint"),
        (starred, r"tool starred: parameter \*x: int cannot be passed by its name"),
        (unheard, "tool unheard: its type hints cannot be read"),
        (unsuited, "tool unsuited: "),
        (lambda: 1, "a name has 1 to 64 of"),
    ],
)
def test_a_function_that_no_model_can_call_is_refused(function: Any, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        tool(function)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolError, match="two tools are called plan"):
        ToolRegistry([plan, plan])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        (1.5, "1.5"),
        ({"é": [1, Path("/a")]}, '{"é":[1,"/a"]}'),
        (Place("Nice"), '{"city":"Nice","country":"FR"}'),
        (Trip(title="t", days=1), '{"title":"t","days":1}'),
        ("half \ud800", "half ?"),
    ],
)
def test_what_a_tool_returns_becomes_text(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_errors_of_a_tool_go_to_the_model() -> None:
    def divide(a: int, b: int) -> float:
        return a / b

    def leave() -> None:
        raise SystemExit(3)

    registry = ToolRegistry([divide, leave])
    results = run(registry, call("divide", a=1, b=0), call("divide", a="x", b=1), call("leave"), call("nope"))
    assert all(result.is_error for result in results)
    assert [result.content for result in results] == [
        "error: ZeroDivisionError: division by zero",
        "error: the arguments do not fit: a: 'x' is not of type 'integer'",
        "error: SystemExit: 3",
        "error: there is no tool nope; there are: divide, leave",
    ]


def test_parallel_calls_run_at_the_same_time_and_answer_in_order() -> None:
    barrier = threading.Barrier(2, timeout=5)

    def meet(name: str) -> str:
        barrier.wait()  # nobody passes alone
        return name

    results = run(ToolRegistry([meet]), call("meet", name="a"), call("meet", name="b"))
    assert [result.content for result in results] == ["a", "b"]


def test_coroutine_functions_run_on_both_roads() -> None:
    async def double(x: int) -> int:
        await asyncio.sleep(0.01)
        return 2 * x

    async def fail() -> None:
        raise KeyError("k")

    results = run(ToolRegistry([double, fail]), call("double", x=4), call("fail"))
    assert [result.content for result in results] == ["8", "error: KeyError: 'k'"]


def test_a_call_that_takes_too_long_is_given_up() -> None:
    @tool(timeout_s=0.1)
    def sleep() -> str:
        time.sleep(0.5)
        return "awake"

    @tool(timeout_s=0.1)
    async def wait() -> str:
        await asyncio.sleep(5)
        return "awake"

    began = time.monotonic()
    results = Dispatcher(ToolRegistry([sleep]), timeout_s=9, max_chars=9).run([call("sleep"), call("sleep")])
    assert [result.content for result in results] == ["error: the call took longer than 0.1 s"] * 2
    assert time.monotonic() - began < 0.45
    results = asyncio.run(
        Dispatcher(ToolRegistry([wait, sleep]), timeout_s=9, max_chars=9).run_async([call("wait"), call("sleep")])
    )
    assert [result.is_error for result in results] == [True, True]


def test_a_long_result_is_cut_and_says_so() -> None:
    def shout() -> str:
        return "x" * 5000

    (result,) = run(ToolRegistry([shout]), call("shout"), max_chars=10)
    assert result.content == "xxxxxxxxxx\n[cut: 5000 characters in all]"


def test_exec_python_has_the_definition_of_the_guide_and_says_what_is_missing() -> None:
    assert make_exec_python().definition() == {
        "type": "function",
        "function": {
            "name": "exec_python",
            "description": "Execute Python to solve problems. Always print output to stdout. "
            "There is no network and no subprocess.",
            "parameters": {
                "type": "object",
                "properties": {"code": {"type": "string", "description": "The Python code to execute."}},
                "required": ["code"],
            },
        },
    }
    assert isinstance(make_exec_python(), Tool)
