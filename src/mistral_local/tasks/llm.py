"""Text in, text out: a checkpoint with its tokenizer and engine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, overload

import torch

from mistral_local.config import KVDtype, QuantFormat, Speculation
from mistral_local.engine.engine import Engine
from mistral_local.errors import RequestError
from mistral_local.model.transformer import Transformer
from mistral_local.sampling.params import Pooling
from mistral_local.tasks.answer import AnswerStream, collect, collect_all
from mistral_local.tasks.embeddings import embed
from mistral_local.tasks.json_answer import SYSTEM as JSON_SYSTEM
from mistral_local.tasks.json_answer import json_member
from mistral_local.tasks.loading import describe, load_runtime
from mistral_local.tasks.messages import Message, plain_message
from mistral_local.tasks.moderation import Moderation, ModerationRequest, moderate_chats, moderate_texts
from mistral_local.tasks.outputs import Answer
from mistral_local.tasks.prepared import PreparedRequest
from mistral_local.tasks.request_builder import RequestBuilder, Tools
from mistral_local.tokenizer.tokenizer import Tokenizer
from mistral_local.tools.loop import MAX_ROUNDS, Approve, ToolRun, chat_with_tools, max_chars_for
from mistral_local.tools.tool import Tool

MAX_CHOICES = 128


class LLM:
    """A loaded model that answers requests; made by load().

    Attributes:
        context_length: most tokens of one request, prompt and answer together.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        engine: Engine,
        *,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._model, self._tokenizer, self._engine = model, tokenizer, engine
        self.context_length = engine.max_context
        self._requests = RequestBuilder(tokenizer, self.context_length, note=note)

    @overload
    def chat(
        self, messages: Iterable[Message], *, tools: Tools | None = None, stream: Literal[False] = False, **options: Any
    ) -> Answer: ...
    @overload
    def chat(
        self, messages: Iterable[Message], *, tools: Tools | None = None, stream: Literal[True], **options: Any
    ) -> AnswerStream: ...
    @overload
    def chat(
        self, messages: Iterable[Message], *, tools: Tools | None = None, stream: bool, **options: Any
    ) -> Answer | AnswerStream: ...
    def chat(
        self, messages: Iterable[Message], *, tools: Tools | None = None, stream: bool = False, **options: Any
    ) -> Answer | AnswerStream:
        """Answer a conversation.

        Args:
            messages: as in the Mistral API: {"role": ..., "content": ...}, or mistral_common's messages.
            tools: functions that the model may call, as in the Mistral API.
            stream: give out events while the model writes; closing the stream stops it.
            options: those of RequestBuilder.chat().

        Raises:
            RequestError: if the conversation or an option cannot be served.
        """
        return self._answer(self.prepare_chat(messages, tools=tools, **options), stream=stream)

    def chat_choices(
        self, messages: Iterable[Message], *, n: int, tools: Tools | None = None, **options: Any
    ) -> list[Answer]:
        """Give n answers to a conversation, each drawn by itself; arguments and errors as in chat()."""
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_CHOICES:
            raise RequestError(f"n: expected 1 to {MAX_CHOICES}, got {n!r}")
        return self._answer_all(self.prepare_chat(messages, tools=tools, **options).choices(n))

    @overload
    def fim(self, prompt: str, suffix: str = "", *, stream: Literal[False] = False, **options: Any) -> Answer: ...
    @overload
    def fim(self, prompt: str, suffix: str = "", *, stream: Literal[True], **options: Any) -> AnswerStream: ...
    @overload
    def fim(self, prompt: str, suffix: str = "", *, stream: bool, **options: Any) -> Answer | AnswerStream: ...
    def fim(self, prompt: str, suffix: str = "", *, stream: bool = False, **options: Any) -> Answer | AnswerStream:
        """Write what belongs between `prompt` and `suffix`; arguments and errors as in chat()."""
        return self._answer(self.prepare_fim(prompt, suffix, **options), stream=stream)

    @overload
    def complete(self, prompt: str, *, stream: Literal[False] = False, **options: Any) -> Answer: ...
    @overload
    def complete(self, prompt: str, *, stream: Literal[True], **options: Any) -> AnswerStream: ...
    @overload
    def complete(self, prompt: str, *, stream: bool, **options: Any) -> Answer | AnswerStream: ...
    def complete(self, prompt: str, *, stream: bool = False, **options: Any) -> Answer | AnswerStream:
        """Continue plain text, without a chat template; arguments and errors as in chat()."""
        return self._answer(self.prepare_text(prompt, **options), stream=stream)

    def complete_batch(self, prompts: list[str], **options: Any) -> list[Answer]:
        """Continue several texts at the same time."""
        return self._answer_all([self.prepare_text(prompt, row=row, **options) for row, prompt in enumerate(prompts)])

    def run_tools(
        self,
        messages: Iterable[Message],
        tools: Iterable[Tool | Callable[..., Any]],
        *,
        max_rounds: int = MAX_ROUNDS,
        approve: Approve | None = None,
        **options: Any,
    ) -> ToolRun:
        """Answer a conversation, running the functions that the model calls until it answers in words.

        Args:
            tools: functions with type hints and a docstring, or made by @tool.
            max_rounds: most answers of the model.
            approve: sees every call before it runs; a text that it returns refuses the call, and is what the model is
                told.
            options: those of RequestBuilder.chat(); a seed is drawn and noted in the journal if there is none.  A tool_choice that
                asks for a call holds for the first answer only.

        Raises:
            RequestError: if the conversation or an option cannot be served; what a tool raises goes to the model.
        """
        options = {"seed": secrets.randbits(32), **options}
        plain = [plain_message(message, index) for index, message in enumerate(messages)]

        def complete(sent: list[dict[str, Any]], definitions: list[dict[str, Any]]) -> Answer:
            is_first = len(sent) == len(plain)
            how = options if is_first or options.get("tool_choice") == "none" else options | {"tool_choice": None}
            return self.chat(sent, tools=definitions, stream=False, **how)

        max_chars = max_chars_for(self.context_length)
        return chat_with_tools(
            complete, plain, tools, max_rounds, approve=approve, max_chars=max_chars, options=options
        )

    def ask_json(self, question: str, *, system: str = JSON_SYSTEM, key: str = "code", **options: Any) -> Any:
        """Ask for a JSON object and return one of its members: direct prompting, where function calls are not to be had.

            code = llm.ask_json("Write a script to print the first 50 Fibonacci numbers.")

        Args:
            system: tells the model what to answer; the default asks for Python code.
            key: the member that is wanted.
            options: those of RequestBuilder.chat(); the answer is held to a JSON object unless response_format says otherwise.

        Raises:
            AnswerError: if the model's answer holds no JSON object with that member; the answer is in the error.
        """
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        options = {"response_format": {"type": "json_object"}, **options}
        return json_member(self.chat(messages, stream=False, **options).text, key)

    def prepare_chat(
        self, messages: Iterable[Message], *, tools: Tools | None = None, row: int = 0, **fields: Any
    ) -> PreparedRequest:
        """Encode a conversation for any engine that runs this model; chat() does no more than to run it.

        Arguments and errors as in RequestBuilder.chat().
        """
        return self._requests.chat(messages, tools=tools, row=row, **fields)

    def prepare_fim(self, prompt: str, suffix: str = "", *, row: int = 0, **options: Any) -> PreparedRequest:
        """Encode a gap for any engine that runs this model; errors as in fim()."""
        return self._requests.fim(prompt, suffix, row=row, **options)

    def prepare_text(self, prompt: str, *, row: int = 0, **options: Any) -> PreparedRequest:
        """Encode plain text for any engine that runs this model; errors as in complete()."""
        return self._requests.text(prompt, row=row, **options)

    def embed(self, texts: list[str], *, pooling: Pooling = "mean") -> list[list[float]]:
        """One vector of length 1 per text, from the model's last hidden states.

        Args:
            pooling: "mean" over the text, or the state of its "last" token.

        A chat model was not trained for it: near texts give near vectors, but an embedding model does better.
        """
        return embed(self._engine, [self._tokenizer.encode_text(text) for text in texts], pooling=pooling)

    def moderate(self, texts: list[str]) -> list[Moderation]:
        """Let the model judge texts, category by category; its judgement is as good as the model.

        Raises:
            RequestError: if a text cannot be judged.
        """
        return self._judge(moderate_texts(self._requests, texts))

    def moderate_chat(self, messages: Iterable[Message]) -> Moderation:
        """Let the model judge the last message of a conversation; errors as in moderate()."""
        (moderation,) = self._judge(moderate_chats(self._requests, [messages]))
        return moderation

    def count_tokens(self, messages: Iterable[Message], *, tools: Tools | None = None) -> int:
        """Prompt tokens of a conversation as it would be sent."""
        return self._requests.count_tokens(messages, tools=tools)

    def describe(self) -> str:
        """The model in a line: size, dtype, device, tokenizer, context."""
        return describe(self._model, self._tokenizer, self._engine)

    def close(self) -> None:
        """Let go of the weights and the KV cache; the object cannot be used afterwards."""
        del self._engine, self._model

    def _answer(self, request: PreparedRequest, *, stream: bool) -> Answer | AnswerStream:
        events = self._start(request)
        return events if stream else collect(events)

    def _answer_all(self, requests: list[PreparedRequest]) -> list[Answer]:
        streams: list[AnswerStream] = []
        try:
            for request in requests:
                streams.append(self._start(request))  # noqa: PERF401 - what has begun is closed if the next one fails
            return collect_all(streams)
        finally:
            for stream in streams:
                stream.close()

    def _judge(self, request: ModerationRequest) -> list[Moderation]:
        return request.results(self._engine.generate(request.prompts, request.params))

    def _start(self, request: PreparedRequest) -> AnswerStream:
        wants = request.wants_tokens
        sequence = self._engine.add(request.tokens, request.params) if wants else request.finished_sequence()
        return AnswerStream(self._engine, sequence, request.reader(sequence))


def load(
    folder: str | Path | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    max_batch_size: int = 1,
    max_context: int | None = None,
    kv_memory: str | int | None = None,
    kv_dtype: KVDtype = "auto",
    speculate: Speculation = "off",
    deterministic: bool = False,
    quantize: QuantFormat | None = None,
    lora_path: str | Path | None = None,
    num_threads: int | None = None,
    num_pipeline_ranks: int = 1,
    expert_parallel: bool = False,
    on_rank_loss: Callable[[str], None] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> LLM:
    """Load a checkpoint folder, ready to answer.

    Under torchrun it returns on rank 0 only: the other ranks serve that one until it ends, and end then.

    Args:
        folder: as published; None takes the bundled demo checkpoint.
        device: None takes CUDA if there is one, else the CPU.
        dtype: a torch dtype or its name, such as "bfloat16"; None keeps what is stored.
        max_batch_size: most requests that run at the same time.
        max_context: most tokens of one request; None takes the checkpoint's own.
        kv_memory: size of the KV cache, in bytes or as 4GB; None takes what max_batch_size requests of max_context
            tokens need, but at most a quarter of the free memory on a CPU, and nine tenths on a GPU.
        kv_dtype: "fp8" stores keys and values in e4m3 with a scale per token and head, in half the memory
            (docs/quantization.md); "auto" in the model's dtype.
        speculate: "ngram" guesses tokens that the request or the answer holds already, and verifies them in the same
            step; the text is the same, and edits of code are faster.
        deterministic: the same bits for a request whatever else runs; bfloat16 on a CPU only.
        quantize: "int8", "int4" or "fp8" rounds the matrices inside the blocks while they are read (docs/quantization.md).
        lora_path: a native LoRA file to merge, with scaling 2.0; before anything is rounded.
        num_threads: CPU threads of this process, as torch.set_num_threads; None leaves them as they are.  Weights under
            64 MB run on one in any case.
        num_pipeline_ranks, expert_parallel: how ranks share the model, as in Transformer.from_folder().
        on_rank_loss: called by another thread when another rank cannot go on, a few seconds before this process is
            ended; None says the cause on stderr.
        progress: called with (tensors done, tensors in all, bytes done).
        note: called with one-line notices.

    Raises:
        CheckpointError: if the folder is not a usable checkpoint.
        OutOfMemoryError: if weights or KV cache do not fit.
        UsageError: if an option cannot be.
    """
    runtime = load_runtime(
        folder,
        device=device,
        dtype=dtype,
        max_batch_size=max_batch_size,
        max_context=max_context,
        kv_memory=kv_memory,
        kv_dtype=kv_dtype,
        speculate=speculate,
        deterministic=deterministic,
        quantize=quantize,
        lora_path=lora_path,
        num_threads=num_threads,
        num_pipeline_ranks=num_pipeline_ranks,
        expert_parallel=expert_parallel,
        on_rank_loss=on_rank_loss,
        progress=progress,
        note=note,
    )
    return LLM(runtime.model, runtime.tokenizer, runtime.engine, note=note)
