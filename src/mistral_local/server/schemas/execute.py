"""Bodies of code execution, as the client of Riza sends them."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field

from mistral_local.server.errors import ApiError
from mistral_local.server.schemas.values import Body, Integer, NoEffect, Number, Text
from mistral_local.server.settings import Limits

N = TypeVar("N", int, float)

DEFAULT_SECONDS, DEFAULT_MEMORY_MB = 30, 128


class ProgramFile(Body):
    """A file beside the program."""

    path: Text
    contents: Text


class ProgramLimits(Body):
    """What the program may use: seconds, and MiB of memory."""

    execution_timeout: Annotated[Number, Field(gt=0)] | None = None
    memory_size: Annotated[Integer, Field(ge=64)] | None = None


class ExecuteBody(Body):
    """A program to run."""

    code: Text
    language: Text
    args: list[Text] | None = None
    env: dict[str, Text] | None = None
    files: list[ProgramFile] | None = None
    http: dict[str, Any] | None = None
    limits: ProgramLimits | None = None
    stdin: Text | None = None
    runtime_revision_id: NoEffect = None

    def job(self, limits: Limits) -> dict[str, Any]:
        """Arguments of the sandbox beside the code.

        Raises:
            ApiError: 400 for what the sandbox does not have, 422 for more than may be asked for.
        """
        if self.language.lower() != "python":
            raise ApiError(400, f"language: only python can be run, got {self.language!r}", param="language")
        if self.args:
            raise ApiError(400, "args: programs take none here; use stdin or env", param="args")
        if self.http:
            raise ApiError(400, "http: programs have no network here", param="http")
        wanted = self.limits or ProgramLimits()
        seconds = min(DEFAULT_SECONDS, limits.execute_seconds)
        memory = min(DEFAULT_MEMORY_MB, limits.execute_memory_mb)
        seconds_given, memory_given = wanted.execution_timeout, wanted.memory_size
        return {
            "timeout": _within("execution_timeout", seconds_given, limits.execute_seconds) or seconds,
            "memory_mb": _within("memory_size", memory_given, limits.execute_memory_mb) or memory,
            "env": self.env,
            "files": {file.path: file.contents.encode() for file in self.files or ()},
            "stdin": self.stdin,
        }


class ExecuteFunctionBody(ExecuteBody):
    """A program that defines `execute(input)`, and the input."""

    input: Any = None


def _within(name: str, wanted: N | None, most: int) -> N | None:
    if wanted is not None and wanted > most:
        raise ApiError(422, f"limits.{name}: at most {most} is allowed, got {wanted:g}", param=f"limits.{name}")
    return wanted
