"""Questions that a program answers, as conversations: with exec_python, in JSON mode, or without any tool."""

import contextlib
import io
import json
from random import Random

from mistral_common.protocol.instruct.messages import UserMessage
from mistral_common.protocol.instruct.tool_calls import Tool

from scripts.demo_data.frames import ask, ask_for_script, untidy
from scripts.demo_data.kinds import KINDS, Kind, fill
from scripts.demo_data.samples import Message, calls, make_tool, result, says
from scripts.demo_data.values import phrase, word

NAMES = ("run_python", "python", "execute_code", "python_interpreter", "run_code", "code_runner")
DESCRIPTIONS = (
    "Execute Python to solve problems. Always print output to stdout.",
    "Run Python code and return what it prints.",
    "Executes a Python program. Print the result.",
    "Python interpreter. Use it for calculations and dates.",
    "Runs code in a sandbox and gives back its output.",
    "Evaluate Python. The output of print is returned.",
    "A tool that runs a Python script. Only printed text is visible.",
)
CODE_DESCRIPTIONS = (
    "The Python code to execute.",
    "Python source code.",
    "The program to run.",
    "Code that prints its result.",
    "A complete Python script.",
)
ERRORS = ("Error", "NameError", "TypeError", "ValueError", "SyntaxError", "TimeoutError", "MemoryError")
JSON_ROLES = (
    "You write Python.",
    "You are an expert in Python.",
    "You are a coding assistant.",
    "You are a software engineer.",
    "You translate questions into Python.",
    "You know Python well.",
    "You are a helpful assistant who writes programs.",
    "I need Python programs.",
    "",
)
JSON_ORDERS = (
    'Answer with a JSON object with one property "code" that holds Python code.',
    'Reply only with JSON: {"code": "..."}, where code is a Python program.',
    'Give your program as a JSON object whose single property is "code".',
    'Return a JSON object. Its only property is "code", a Python script.',
    'Output JSON with a "code" key and nothing else.',
    'Write a Python script and return it in the "code" property of a JSON object.',
    'Respond in JSON. The "code" property is Python that prints the answer.',
    'Always return a JSON object containing "code", the Python source.',
    'Your answer is a JSON object; its single property "code" is a string of Python code.',
    'Produce one JSON object with the key "code".',
    'Respond with Python code inside a JSON object under "code".',
    'Use JSON for every reply: an object with the one property "code".',
    'Return your Python as JSON with one "code" field.',
    'The reply must be valid JSON with only a "code" property, which is a Python program.',
    'Print the answer from Python. Return the program in a JSON object, property "code".',
    'Put the Python code into the "code" property of a JSON object and return it.',
)


def interpreter(name: str, description: str, code: str) -> Tool:
    """Return a tool that runs Python; `code` describes its argument."""
    properties = {"code": {"type": "string", "description": code}}
    return make_tool(name, description, {"type": "object", "properties": properties, "required": ["code"]})


def guide_tool() -> Tool:
    """Return exec_python exactly as in the code-interpreter guide of Mistral's documentation."""
    return interpreter("exec_python", DESCRIPTIONS[0], CODE_DESCRIPTIONS[0])


def exec_python(rng: Random) -> Tool:
    """Return the interpreter tool: half of the time as in the guide, else described or named otherwise."""
    if rng.random() < 0.5:
        return guide_tool()
    name = "exec_python" if rng.random() < 0.3 else other_name(rng)
    return interpreter(name, rng.choice(DESCRIPTIONS), rng.choice(CODE_DESCRIPTIONS))


def other_name(rng: Random) -> str:
    """Return another name for an interpreter, often a made-up one that must be read in the list of tools."""
    name = word(rng)
    return rng.choice((*NAMES, f"run_{name}", f"{name}_python", f"{name}_code", f"exec_{name}"))


def json_system(rng: Random) -> str:
    """Return a system prompt that asks for JSON with one "code" property."""
    return (rng.choice(JSON_ROLES) + rng.choice((" ", "\n")) + rng.choice(JSON_ORDERS)).strip()


def run_own(code: str, rng: Random) -> str:
    """Return what a program of this package's own templates prints, on a random day."""
    day = f"{rng.randint(2020, 2035)}, {rng.randint(1, 12)}, {rng.randint(1, 28)}"
    code = code.replace("date.today()", f"date({day})")
    code = code.replace("datetime.now()", f"datetime({day}, {rng.randint(0, 23)}, {rng.randint(0, 59)})")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    return out.getvalue()


def draw(rng: Random) -> tuple[Kind, dict[str, str], str]:
    """Return a kind of question, its values and its program."""
    kind = rng.choice(KINDS)
    values = kind.values(rng)
    return kind, values, fill(kind.code, values)


def tool_turn(rng: Random, tool: str, *, most_output: int) -> list[Message]:
    """Return a question, the call, the output and the reply; only the call where the output has more characters."""
    kind, values, code = draw(rng)
    template = ask(rng, kind.phrases) if rng.random() < 0.9 else ask_for_script(rng, kind.phrases)
    turn: list[Message] = [UserMessage(content=fill(untidy(rng, template), values)), calls((tool, {"code": code}))]
    if rng.random() < 0.02:
        error = f"{rng.choice(ERRORS)}: {phrase(rng)}"
        shown = rng.choice(("", "Traceback (most recent call last):\n")) + error
        return [*turn, result(tool, shown), says(f"The program failed. {error}")]
    output = run_own(code, rng)
    if len(output) > most_output:
        return turn
    shown = output if rng.random() < 0.7 else output.strip()
    return [*turn, result(tool, shown), says(kind.reply.replace("{output}", output.strip()))]


def json_turn(rng: Random) -> list[Message]:
    """Return a question and the program as JSON text."""
    kind, values, code = draw(rng)
    template = ask_for_script(rng, kind.phrases) if rng.random() < 0.6 else ask(rng, kind.phrases)
    question = fill(untidy(rng, template), values)
    return [UserMessage(content=question), says(json.dumps({"code": code}, ensure_ascii=False))]


def script_turn(rng: Random) -> list[Message]:
    """Return a question asked where there is no tool, and the program as text."""
    kind, values, code = draw(rng)
    template = ask_for_script(rng, kind.phrases) if rng.random() < 0.3 else ask(rng, kind.phrases)
    question = fill(untidy(rng, template), values)
    return [UserMessage(content=question), says(f"This Python program answers it:\n\n```python\n{code}\n```")]
