"""python -m mistral_local.cli.showcase: what the bundled model can do, in a minute and without a GPU.

This is what `make demo` runs: a streamed chat answer, a fill-in-the-middle completion and two function calls.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mistral_local.tasks.llm import LLM
    from mistral_local.tasks.outputs import Event

EXEC_PYTHON = {
    "type": "function",
    "function": {
        "name": "exec_python",
        "description": "Executes Python code and returns what it prints. Use it to calculate or to look something up.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The Python code to execute."}},
            "required": ["code"],
        },
    },
}
FIM_PREFIX, FIM_SUFFIX = "def add(", "    return sum"


def main() -> None:
    """Show a chat answer, a completion and function calls of the bundled demo checkpoint."""
    import mistral_local

    llm = mistral_local.load(note=lambda line: print(line, file=sys.stderr))
    print(f"The bundled demo model: {llm.describe()}.\nIt is a demonstration of the runtime, not of what models know.")
    _chat(llm, "Hello! What can you do?")
    _chat(llm, "Write a haiku about San Francisco.")
    _fill_in_the_middle(llm)
    _call_function(llm, "What are the first 50 Fibonacci numbers?", EXEC_PYTHON)
    _call_function(llm, "What's today's date?", EXEC_PYTHON)
    print(f"\nGo on with:  {_command('mistral-chat')} --instruct")


def _command(name: str) -> str:
    """A command of this installation as it can be typed here, whether or not its environment is activated."""
    path = Path(sys.executable).parent / name
    return name if shutil.which(name) else os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _chat(llm: LLM, question: str) -> None:
    _headline("Chat", question)
    _show(llm.chat([{"role": "user", "content": question}], stream=True, max_tokens=200))


def _fill_in_the_middle(llm: LLM) -> None:
    _headline("Fill in the middle", f"{FIM_PREFIX} ... {FIM_SUFFIX.strip()}")
    print(FIM_PREFIX, end="")
    _show(llm.fim(FIM_PREFIX, FIM_SUFFIX, stream=True, max_tokens=100), end=f"{FIM_SUFFIX}\n")


def _call_function(llm: LLM, question: str, tool: dict[str, Any]) -> None:
    _headline("Function call", f"{question}   (it may call {tool['function']['name']})")
    _show(llm.chat([{"role": "user", "content": question}], tools=[tool], stream=True, max_tokens=300))


def _headline(kind: str, what: str) -> None:
    print(f"\n--- {kind}: {what}")


def _show(events: Iterator[Event], *, end: str = "\n") -> None:
    """Print an answer while it comes."""
    from mistral_local.tasks.outputs import Finished, TextDelta, ToolCallDone

    for event in events:
        match event:
            case TextDelta():
                print(event.text, end="", flush=True)
            case ToolCallDone():
                arguments = json.loads(event.call.arguments)
                shown = "\n".join(f"  {name}: {_indented(str(value))}" for name, value in arguments.items())
                print(f"{event.call.name}\n{shown}", end="")
            case Finished():
                usage = event.usage
                rate = f"{usage.decode_tokens_per_s:.0f} tok/s"
                print(
                    f"{end}[{usage.completion_tokens} tokens, first after {usage.time_to_first_token_s:.2f} s, {rate}]"
                )


def _indented(text: str) -> str:
    return text if "\n" not in text else "\n" + "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
