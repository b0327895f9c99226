"""Whether a decoded answer is right."""

import json
import math
from dataclasses import dataclass
from typing import Any

from mistral_common.tokens.tokenizers.base import SpecialTokens

from scripts.demo_data.encoding import Encoder
from scripts.demo_data.heldout.cases import Case
from scripts.demo_data.samples import Infill
from scripts.demo_data.sandbox import run_sandboxed


@dataclass(frozen=True, slots=True)
class Reply:
    """A decoded answer: text, or calls as (name, arguments as written)."""

    text: str
    calls: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return self.text or " ".join(f"{name}({arguments})" for name, arguments in self.calls)


def parse(encoder: Encoder, ids: list[int]) -> Reply:
    """Split the tokens of an answer at [TOOL_CALLS] and [ARGS]."""
    tool_calls = encoder.text.get_special_token(SpecialTokens.tool_calls.value)
    args = encoder.text.get_special_token(SpecialTokens.args.value)
    starts = [i for i, token in enumerate(ids) if token == tool_calls]
    text = encoder.text.decode(ids[: starts[0]] if starts else ids)
    calls = []
    for start, end in zip(starts, [*starts, len(ids)][1:], strict=True):
        call = ids[start + 1 : end]
        at = call.index(args) if args in call else len(call)
        calls.append((encoder.text.decode(call[:at]), encoder.text.decode(call[at + 1 :])))
    return Reply(text, tuple(calls))


def is_right(case: Case, reply: Reply) -> bool:
    """Apply the check of the case's row."""
    if case.row == "program":
        return len(reply.calls) == 1 and reply.calls[0][0] == case.tool and runs_right(reply.calls[0][1], case.answer)
    if case.row == "json":
        return not reply.calls and runs_right(reply.text, case.answer)
    if case.row == "new_tool":
        return len(reply.calls) == 1 and calls_right(case, *reply.calls[0])
    if case.row == "infill":
        return compiles(case, reply.text)
    return not reply.calls and any(expected in reply.text.lower() for expected in case.expects)


def parse_object(text: str) -> dict[str, Any] | None:
    """Return a JSON object, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def runs_right(arguments: str, program: str) -> bool:
    """Say whether the code in {"code": ...} prints what the right program prints."""
    value = parse_object(arguments)
    if value is None or list(value) != ["code"] or not isinstance(value["code"], str):
        return False
    found = run_sandboxed(value["code"])
    return found is not None and same_output(found, run_sandboxed(program) or "")


def same_output(found: str, expected: str) -> bool:
    """Compare word by word; numbers may differ by 0.1 % (conversion factors)."""
    left, right = (text.replace("[", " ").replace("]", " ").replace(",", " ").split() for text in (found, expected))
    return len(left) == len(right) and all(same_word(a, b) for a, b in zip(left, right, strict=True))


def same_word(found: str, expected: str) -> bool:
    """Compare two words, as numbers where both have a fraction or exponent."""
    if found == expected:
        return True
    try:
        return "." in expected and math.isclose(float(found), float(expected), rel_tol=1e-3)
    except ValueError:
        return False


def calls_right(case: Case, name: str, text: str) -> bool:
    """Compare name, argument names and the values the user gave; an unmentioned enumeration may take any option."""
    prompt = case.prompt
    arguments, given = parse_object(text), json.loads(case.answer)
    if name != case.tool or arguments is None or isinstance(prompt, Infill) or not hasattr(prompt, "tools"):
        return False
    tool = next(t for t in prompt.tools if t.function.name == name)
    properties = tool.function.parameters["properties"]
    return set(arguments) == set(properties) and all(
        arguments[key] == given[key] if key in given else arguments[key] in schema.get("enum", [])
        for key, schema in properties.items()
    )


def compiles(case: Case, middle: str) -> bool:
    """Say whether prefix, middle and suffix are one valid Python text; an empty middle is not an answer."""
    if not isinstance(case.prompt, Infill) or not middle.strip():
        return False
    try:
        compile(case.prompt.prefix + middle + case.prompt.suffix, "<infill>", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
