"""A model without weights for the tests of the commands, and the commands run on it.

`python cli_fake.py mistral-chat ARGS` is mistral-chat with this model. What it answers depends on the last message:
`count` numbers without end, `count to 30` those, `call` a tool call, `silent` nothing, `too long` an error, `half` an error after some
text, `bug` a RuntimeError, anything else `you said: ...`.
"""

import itertools
import json
import os
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

from mistral_local.errors import PromptTooLongError, RequestError
from mistral_local.tasks.options import GenerationOptions
from mistral_local.tasks.outputs import Answer, Event, Finished, TextDelta, ToolCall, ToolCallDone, Usage

LOADED: list["FakeLLM"] = []


class FakeLLM:
    """Stands in for mistral_local.tasks.llm.LLM; a token is a word."""

    def __init__(self, folder: Any, how: dict[str, Any]) -> None:
        self.folder, self.how = folder, how
        self.context_length = how.get("max_context") or 1000
        self.requests: list[tuple[Any, Any, GenerationOptions]] = []
        self.num_open_streams = 0
        self.is_closed = False

    def chat(self, messages: Any, *, tools: Any = None, stream: bool, **options: Any) -> Iterator[Event]:
        messages = json.loads(json.dumps(messages))
        self.requests.append((messages, tools, GenerationOptions(**options)))
        return self._events(messages[-1]["content"], self.count_tokens(messages), GenerationOptions(**options))

    def fim(self, prompt: str, suffix: str, *, stream: bool, **options: Any) -> Iterator[Event]:
        return self.complete(f"{prompt}...{suffix}", stream=stream, **options)

    def complete(self, prompt: str, *, stream: bool, **options: Any) -> Iterator[Event]:
        self.requests.append((prompt, None, GenerationOptions(**options)))
        return self._events(prompt, len(prompt.split()), GenerationOptions(**options))

    def complete_batch(self, prompts: list[str], **options: Any) -> list[Answer]:
        self.requests.append((prompts, None, GenerationOptions(**options)))
        return [Answer(" and more", "length", Usage(3, 2)) for _ in prompts]

    def count_tokens(self, messages: Any, *, tools: Any = None) -> int:
        assert messages[-1]["role"] in ("user", "tool")
        return sum(len(message["content"].split()) for message in messages)

    def describe(self) -> str:
        return "a fake model"

    def close(self) -> None:
        self.is_closed = True

    def _events(self, prompt: str, num_prompt_tokens: int, options: GenerationOptions) -> Iterator[Event]:
        if prompt == "too long":
            raise PromptTooLongError(f"the prompt has 9999 tokens, the context {self.context_length}")
        self.num_open_streams += 1
        try:
            num_tokens = 0
            reason = "tool_calls" if prompt == "call" else "stop"
            for event in _answer_to(prompt):
                if num_tokens == options.max_tokens:
                    reason = "length"
                    break
                num_tokens += 1
                yield event
            yield Finished(reason, Usage(num_prompt_tokens, num_tokens, 0.25, 50.0))
        finally:
            self.num_open_streams -= 1


def _answer_to(prompt: str) -> Iterator[Event]:
    match prompt:
        case "count" | "count to 30":
            for number in itertools.count() if prompt == "count" else range(1, 31):
                yield TextDelta(f"{number} ")
                time.sleep(0.01)
        case "call":
            yield TextDelta("Let me see.")
            yield ToolCallDone(0, ToolCall("abcdef123", "weather", '{"city": "Köln"}'))
        case "silent":
            return
        case "half":
            yield TextDelta("some text")
            raise RequestError("cannot go on")
        case "bug":
            raise RuntimeError("shapes do not match")
        case _:
            for index, word in enumerate(f"you said: {prompt}".split(" ")):
                yield TextDelta(word if index == 0 else f" {word}")


def load(folder: Any = None, **how: Any) -> FakeLLM:
    """Stand in for mistral_local.load."""
    how["note"]("tekken.json chosen over tokenizer.model.v3")
    time.sleep(float(os.environ.get("FAKE_LOAD_S", "0")))
    if how.get("progress"):
        how["progress"](1, 1, 1000)
    LOADED.append(FakeLLM(folder, how))
    return LOADED[-1]


def fake_module() -> types.ModuleType:
    """Return what takes the place of mistral_local.tasks.llm."""
    module = types.ModuleType("mistral_local.tasks.llm")
    module.load = load  # type: ignore[attr-defined]
    return module


if __name__ == "__main__":
    sys.modules["mistral_local.tasks.llm"] = fake_module()
    from mistral_local.cli import entry

    command = {"mistral-chat": entry.chat, "mistral-demo": entry.demo}[sys.argv.pop(1)]
    sys.exit(command())
