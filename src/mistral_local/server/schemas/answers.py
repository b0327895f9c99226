"""What the server answers, as pydantic models: they describe it in OpenAPI, and nothing is validated or copied by them.

A test sends requests to every route and compares what comes with these.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Answer(BaseModel):
    """Has no fields but those that are named."""

    model_config = ConfigDict(extra="forbid")


class ErrorFields(_Answer):
    """An error as the clients of OpenAI and Azure read it."""

    message: str
    type: str
    param: str | None
    code: str
    innererror: dict[str, Any] | None = None


class ErrorDetail(_Answer):
    """A field that has not the form of its route."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(_Answer):
    """An error: at the top as Mistral's clients read it, and once more under `error`."""

    object: Literal["error"]
    message: str
    type: str
    param: str | None
    code: str
    error: ErrorFields
    detail: list[ErrorDetail] | None = None


class UsageBody(_Answer):
    """Tokens that were counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ScoredToken(_Answer):
    """A token and its log-probability."""

    token: str
    token_id: int
    logprob: float
    bytes: list[int]
    top_logprobs: list[ScoredToken] | None = None


class Scores(_Answer):
    """Scores of an answer's tokens."""

    content: list[ScoredToken]


class CalledFunction(_Answer):
    """A function and its arguments, which are a JSON object as text."""

    name: str
    arguments: str


class Call(_Answer):
    """A call that the model asks for."""

    id: str
    type: Literal["function"]
    function: CalledFunction
    index: int


class AnswerMessage(_Answer):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    tool_calls: list[Call] | None
    reasoning_content: str | None = None


class ChatChoice(_Answer):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length", "tool_calls", "error"]
    logprobs: Scores | None = None


class ChatAnswer(_Answer):
    """Answers to a conversation, or fillings of a gap."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody


class TextScores(_Answer):
    """Scores in OpenAI's older form."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(_Answer):
    """One text."""

    index: int
    text: str
    logprobs: TextScores | None
    finish_reason: Literal["stop", "length", "error"]


class TextAnswer(_Answer):
    """Completed texts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageBody


class Embedding(_Answer):
    """A vector of length 1: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(_Answer):
    """One vector per text."""

    id: str
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: UsageBody


class Judgement(_Answer):
    """How the loaded model judges a text, by category."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]


class ModerationAnswer(_Answer):
    """One judgement per text or conversation."""

    id: str
    model: str
    results: list[Judgement]
    usage: UsageBody


class TokenOfPrompt(_Answer):
    """A token that the model would see; `source` is what of the request it comes from."""

    id: int
    piece: str
    is_control: bool
    source: str


class TokenizeAnswer(_Answer):
    """The tokens of a request; `ids` are the caller's ids of calls that the model sees as others."""

    model: str
    tokenizer: str
    count: int
    max_context_length: int
    tokens: list[TokenOfPrompt]
    ids: dict[str, str]
    notes: list[str]


class ModelCard(_Answer):
    """The loaded model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: Literal["base"]
    name: str
    description: str
    capabilities: dict[str, bool]
    max_context_length: int
    aliases: list[str]
    default_model_temperature: float


class ModelList(_Answer):
    """The one model that is loaded."""

    object: Literal["list"]
    data: list[ModelCard]


class Execution(_Answer):
    """A program that has ended; `duration` in milliseconds, `exit_code` above 0 also for an end by a signal."""

    id: str
    duration: int
    exit_code: int
    stdout: str
    stderr: str


class FunctionExecution(_Answer):
    """A function that has returned, or not."""

    execution: Execution
    output: Any
    output_status: Literal["valid", "json_serialization_error", "error"]
