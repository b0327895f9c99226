"""The OpenAPI document, and the page that shows it without a script or another host."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from mistral_local.server.schemas.answers import ErrorBody

JSON_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": meaning}
    for status, meaning in {
        400: "The request is understood and cannot be served",
        401: "No key, or a wrong one",
        403: "A web page of another origin, another host's name, or what is switched off",
        404: "There is no such route",
        408: "The body did not come in time",
        413: "The body is too large",
        415: "The body is not JSON",
        422: "A field has the wrong type or value",
        429: "Too many requests wait; Retry-After says when to come again",
        500: "A bug, or weights whose numbers go wrong",
        503: "The server is shutting down, or out of memory",
    }.items()
}
"""Errors of the routes that take JSON."""

ERRORS: dict[int | str, dict[str, Any]] = {status: JSON_ERRORS[status] for status in (401, 403, 500, 503)}
"""Errors of any other route."""

STYLE = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}code{background:#eee}td{vertical-align:top;padding:.1em .8em .1em 0}"


def answers(model: type[BaseModel], *, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    """How a route's answer is described.

    Args:
        streams: whether it may also be events: the same without `message`, and with `delta` in its place.
    """
    content = {"text/event-stream": {"schema": {"type": "string"}}} if streams else {}
    return {200: {"model": model, "content": content}}


def describe(app: FastAPI, *, has_key: bool) -> None:
    """Let an app's document say how the key is shown."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=app.description)
            if has_key:
                made["components"]["securitySchemes"] = {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
                }
                made["security"] = [{"bearer": []}, {"api-key": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def page(document: Mapping[str, Any]) -> str:
    """The document as a page: each route with the fields of its body and of its answer."""
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{_text(document['info']['title'])}</title><style>{STYLE}</style>"
    ]
    parts.append(f"<h1>{_text(document['info']['title'])} {_text(document['info']['version'])}</h1>")
    parts.append(
        f"<p>{_text(document['info'].get('description', ''))} The whole: <a href=openapi.json>openapi.json</a></p>"
    )
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts.append(
                f"<h2><code>{method.upper()} {_text(path)}</code></h2><p>{_text(route.get('description', ''))}</p>"
            )
            body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            answer = route["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
            for name, schema in (("Body", body), ("Answer", answer)):
                if schema and "$ref" in schema:
                    parts += [f"<h3>{name}</h3>", *_fields(schemas[_name(schema)])]
    parts.append("<h1>Parts of bodies and answers</h1>")
    for name, schema in schemas.items():
        parts += [
            f"<h3 id={_text(name)}>{_text(name)}</h3><p>{_text(schema.get('description', ''))}</p>",
            *_fields(schema),
        ]
    return "\n".join(parts)


def _fields(schema: Mapping[str, Any]) -> list[str]:
    needed = schema.get("required", ())
    rows = [
        f"<tr><td><code>{_text(name)}</code>{' *' if name in needed else ''}<td>{_kind(field)}"
        f"<td>{_text(field.get('description', ''))}"
        for name, field in schema.get("properties", {}).items()
    ]
    return ["<table>", *rows, "</table>"] if rows else []


def _kind(field: Mapping[str, Any]) -> str:
    """What a field may be, in a few words."""
    if "$ref" in field:
        return f"<a href=#{_text(_name(field))}>{_text(_name(field))}</a>"
    if "anyOf" in field:
        return " or ".join(_kind(part) for part in field["anyOf"] if part.get("type") != "null")
    if "enum" in field or "const" in field:
        return _text(", ".join(map(repr, field.get("enum", [field.get("const")]))))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    bounds = {"minimum": "from", "maximum": "to", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}
    limits = [f"{word} {field[name]:g}" for name, word in bounds.items() if name in field]
    return _text(" ".join([str(field.get("type", "anything")), *limits]))


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"].rpartition("/")[2])


def _text(text: str) -> str:
    return html.escape(" ".join(text.split()))
