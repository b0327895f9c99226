"""Fifty JSON schemas whose every string, array and number is bounded, each with a form of its own."""

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STRING: dict[str, Any] = {"type": "string", "maxLength": 8}
DIGIT: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 9}
COLOURS = ["red", "green", "blue"]


def record(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    """A closed object; all properties are required unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def array(items: Any, most: int = 3, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Point(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: Annotated[int, Field(ge=-100, le=100)]
    y: Annotated[int, Field(ge=-100, le=100)]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=10)]
    colour: Colour
    points: Annotated[list[Point], Field(min_length=1, max_length=3)]
    parent: Annotated[str, Field(max_length=5)] | None = None


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: Literal["S", "M", "L"]
    count: Annotated[int, Field(gt=0, lt=20)]
    gift: bool


TREE = {
    "$ref": "#/$defs/n0",
    "$defs": {
        "n0": record(v=DIGIT, kids=array({"$ref": "#/$defs/n1"}, 2)),
        "n1": record(v=DIGIT, kids=array({"$ref": "#/$defs/n2"}, 2)),
        "n2": record(v=DIGIT),
    },
}

SCHEMAS: dict[str, Any] = {
    # One value.
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "digit": DIGIT,
    "negative integer": {"type": "integer", "minimum": -50, "maximum": -3},
    "exclusive integer": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1000},
    "even integer": {"type": "integer", "minimum": 0, "maximum": 998, "multipleOf": 2},
    "half": {"type": "number", "minimum": 0, "maximum": 50, "multipleOf": 0.5},
    "number in a range": {"type": "number", "minimum": -1.5, "maximum": 2.25},
    "string": STRING,
    "string of a length": {"type": "string", "minLength": 3, "maxLength": 5},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    "pattern of words": {"type": "string", "pattern": "^(foo|bar|bäz)( (foo|bar)){0,3}$"},
    "pattern and length": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 6},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "constant": {"const": 42},
    "constant object": {"const": {"a": [1, 2], "b": None}},
    "enum of words": {"enum": COLOURS},
    "enum of kinds": {"enum": ["auto", 1, 2.5, None, True, ["x"]]},
    "unicode enum": {"enum": ["é", "日本", "🙂👩‍👩‍👧", 'a"b\\c', "tab\t", "Ελλάδα"]},
    # Arrays.
    "digits": array(DIGIT, 5),
    "strings": array(STRING),
    "pair": {"type": "array", "prefixItems": [DIGIT, STRING], "items": False, "minItems": 2, "maxItems": 2},
    "matrix": array(array(DIGIT, 3, 3), 3, 2),
    "array of kinds": array({"anyOf": [DIGIT, {"type": "null"}, {"enum": COLOURS}]}, 4),
    # Objects.
    "record": record(name=STRING, age=DIGIT),
    "optional": record(["a"], a=DIGIT, b=STRING, c={"type": "boolean"}),
    "all optional": record([], a=DIGIT, b=DIGIT, c=DIGIT),
    "empty object": record(),
    "nested": record(a=record(b=record(c=record(d=DIGIT)))),
    "unicode names": record(**{"größe": DIGIT, "名前": STRING, "🙂": {"type": "boolean"}}),
    "names to escape": record(**{'a"b': DIGIT, "c\\d": DIGIT, "e\nf": DIGIT, "": DIGIT}),
    "list of records": record(rows=array(record(id=DIGIT, label=STRING), 3, 1)),
    "names by a pattern": {"type": "object", "patternProperties": {"^k[0-9]$": DIGIT}, "additionalProperties": False},
    "additional properties": {
        "type": "object",
        "properties": {"a": DIGIT},
        "required": ["a"],
        "additionalProperties": STRING,
        "maxProperties": 3,
    },
    "nullable": record(a={"type": ["integer", "null"], "minimum": 0, "maximum": 7}),
    "nullable string": record(a={"anyOf": [STRING, {"type": "null"}]}),
    # Combinations.
    "any of records": {"anyOf": [record(kind={"const": "a"}, x=DIGIT), record(kind={"const": "b"}, y=STRING)]},
    "one of constants": {"oneOf": [record(t={"const": "p"}, v=DIGIT), record(t={"const": "q"}, w=STRING)]},
    "all of": {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 30}]},
    "types": {"type": ["boolean", "null"]},
    # References.
    "reference": {"$ref": "#/$defs/d", "$defs": {"d": DIGIT}},
    "definitions": {
        **record(a={"$ref": "#/definitions/s"}, b=array({"$ref": "#/definitions/s"}, 2)),
        "definitions": {"s": STRING},
    },
    "reference to a property": record(first=DIGIT, second={"$ref": "#/properties/first"}),
    "tree": TREE,
    "reference beside keywords": record(a={"$ref": "#/$defs/s", "minLength": 2}) | {"$defs": {"s": STRING}},
    # Written by Pydantic.
    "point": Point.model_json_schema(),
    "shape": Shape.model_json_schema(),
    "order": Order.model_json_schema(),
    "described": {"title": "T", "description": "d", "$comment": "c", "default": 1, "examples": [2], **DIGIT},
}
