"""Errors as clients read them: one body that the published clients all understand.

| status | what it means                                                              |
|--------|----------------------------------------------------------------------------|
| 400    | the request is understood and cannot be served: too long, contradictory    |
| 401    | no key, or a wrong one                                                     |
| 403    | a web page of another origin, or a host name that is not this server's     |
| 404    | no such route                                                              |
| 405    | not with this method                                                       |
| 408    | the body did not come in time                                              |
| 413    | the body is too large                                                      |
| 415    | the body is not JSON                                                       |
| 422    | a field of the body has the wrong type or value                            |
| 429    | too many requests wait; Retry-After says when to come again                |
| 500    | a bug of ours, or weights whose numbers go wrong                           |
| 503    | the server is shutting down, its engine has died, or it is out of memory   |
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from mistral_local.errors import (
    EngineBusyError,
    EngineClosedError,
    MistralLocalError,
    OutOfMemoryError,
    PromptTooLongError,
    RankLostError,
    RequestError,
    SandboxUnavailableError,
)
from mistral_local.server.schemas.not_served import NOT_SERVED

_log = logging.getLogger(__name__)

RETRY_AFTER_S = 1
CLIENT_GONE = 499
"""What the log says for a client that hung up; nobody reads the response."""

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_CODES = {
    400: "bad_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_field",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}


class ApiError(HTTPException):
    """An error with a status.

    Args:
        param: the field of the body that is meant, dotted.
        code: a word for programs; the status decides it if it is None.
        inner: details, as `innererror` of Azure has them.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        inner: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param, self.code, self.inner = param, code, inner


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error: at the top level as the Mistral API has it, under `error` as OpenAI and Azure have it."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    fields = {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status, str(status))}
    return {"object": "error", **fields, "error": fields}


def error_of(error: MistralLocalError) -> ApiError:
    """The status for an error of our own."""
    message = str(error)
    match error:
        case PromptTooLongError():
            return ApiError(400, message, code="context_length_exceeded")
        case RequestError():
            return ApiError(400, message)
        case EngineBusyError():
            return ApiError(429, message, headers={"Retry-After": str(RETRY_AFTER_S)})
        case EngineClosedError() | RankLostError():
            return ApiError(503, message)
        case OutOfMemoryError():
            return ApiError(503, message, code="out_of_memory", headers={"Retry-After": str(RETRY_AFTER_S)})
        case SandboxUnavailableError():
            return ApiError(400, message, code="sandbox_unavailable")
    return ApiError(500, message)


def add_error_handlers(app: FastAPI) -> None:
    """Let every error of an app have the one body."""
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(MistralLocalError, _answer_own)
    app.add_exception_handler(Exception, _answer_bug)


def error_response(error: HTTPException) -> Response:
    """The response that an error becomes."""
    if not isinstance(error, ApiError):
        error = ApiError(error.status_code, error.detail, headers=error.headers)
    body = error_body(error.status_code, error.detail, param=error.param, code=error.code)
    if error.inner is not None:
        body["error"] = {**body["error"], "innererror": error.inner}
    return JSONResponse(body, error.status_code, dict(error.headers or {}))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and not isinstance(error, ApiError):
        error = ApiError(404, f"there is no route {request.method} {request.url.path}")
    return error_response(error)


async def _answer_own(request: Request, error: Exception) -> Response:
    assert isinstance(error, MistralLocalError)
    answer = error_of(error)
    if answer.status_code >= 500:
        _log.error("%s %s: %s", request.method, request.url.path, error)
    return error_response(answer)


async def _answer_bug(request: Request, error: Exception) -> Response:
    return error_response(ApiError(500, f"internal error, please report it: {type(error).__name__}"))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """A body that has not the form of its route; the values that were sent are not repeated."""
    assert isinstance(error, RequestValidationError)
    problems = [_problem(problem) for problem in error.errors()]
    first = problems[0]
    param = ".".join(map(str, first["loc"][1:])) or None
    message = f"{param}: {first['msg']}" if param else str(first["msg"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    body = error_body(422, message + more, param=param)
    return JSONResponse({**body, "detail": problems}, 422)


def _problem(problem: Mapping[str, Any]) -> dict[str, Any]:
    message, kind = str(problem["msg"]), problem["type"]
    if kind == "extra_forbidden":
        message = NOT_SERVED.get(problem["loc"][-1], "there is no such field")
    return {"loc": _plain_place(problem["loc"]), "msg": message.removeprefix("Value error, "), "type": kind}


def _plain_place(loc: Sequence[Any]) -> list[Any]:
    """The place of a field, without the names that pydantic gives to alternatives of a type."""
    return [part for part in loc if isinstance(part, int) or str(part).replace("_", "").isalnum()]
