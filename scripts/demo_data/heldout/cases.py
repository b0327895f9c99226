"""The held-out prompts as cases: a request, what is right, and which row of the report it counts for."""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from mistral_common.protocol.instruct.messages import SystemMessage, UserMessage
from mistral_common.protocol.instruct.tool_calls import Tool

from scripts.demo_data.exercises import CODE_DESCRIPTIONS, guide_tool, interpreter, run_own
from scripts.demo_data.frames import sentence
from scripts.demo_data.heldout import phrases, talks
from scripts.demo_data.heldout.functions import FUNCTIONS
from scripts.demo_data.heldout.names import CITIES, TOPICS
from scripts.demo_data.heldout.tools import TOOLS, HeldTool, draw_arguments
from scripts.demo_data.kinds import KINDS, Phrases, fill
from scripts.demo_data.samples import Conversation, Infill, Message, Sample, calls, result

SEED = 20240607
VALUES = Path(__file__).parent / "values.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One held-out prompt."""

    row: str  # of the report
    prompt: Sample  # up to the user's or the tool's last word; an Infill keeps its true middle
    answer: str  # the right program, text or arguments (JSON); "" where many texts are right
    tool: str = ""  # the tool to call
    expects: tuple[str, ...] = ()  # one of these must be in the text, in lower case


def held_cases() -> list[Case]:
    """Return all cases, the same at every call."""
    rng = Random(SEED)
    return [*literal_cases(), *program_cases(rng), *talk_cases(rng), *infill_cases(rng), *tool_cases(rng)]


def ask(rng: Random, core: Phrases, *, script: bool = False) -> str:
    """Return a held-out phrasing, with slots."""
    if script:
        return sentence(rng.choice(phrases.SCRIPT_FRAMES).replace("{}", rng.choice(core.nouns)))
    frames, cores = rng.choice(
        (
            (phrases.NOUN_FRAMES, core.nouns),
            (phrases.ORDER_FRAMES, core.orders),
            (phrases.QUESTION_FRAMES, core.questions),
        )
    )
    if cores is not core.nouns and rng.random() < 0.5:
        return sentence(rng.choice(cores)) + ("?" if cores is core.questions else ".")
    return sentence(rng.choice(frames).replace("{}", rng.choice(cores)))


def held_values() -> dict[str, list[dict[str, str]]]:
    """Return the fixed values of three prompts of each kind; programs with them are kept out of training."""
    values: dict[str, list[dict[str, str]]] = json.loads(VALUES.read_text(encoding="utf-8"))
    return values


def run_tool(rng: Random) -> Tool:
    """Return exec_python as in the guide, or with a held-out description."""
    if rng.random() < 0.6:
        return guide_tool()
    return interpreter("exec_python", rng.choice(phrases.TOOL_DESCRIPTIONS), CODE_DESCRIPTIONS[0])


def setting(rng: Random, held: HeldTool | None) -> tuple[list[Message], list[Tool]]:
    """Return a system prompt or none, and exec_python or a held-out tool, sometimes beside another."""
    system: list[Message] = [SystemMessage(content=rng.choice(phrases.SYSTEM_PROMPTS))] if rng.random() < 0.5 else []
    tools = [held.tool if held else run_tool(rng)]
    if rng.random() < 0.3:
        tools.append(run_tool(rng) if held else rng.choice(TOOLS).tool)
        rng.shuffle(tools)
    return system, tools


def literal_cases() -> list[Case]:
    """Return the prompts of the guide."""
    tool = guide_tool()
    system = SystemMessage(content="You are a helpful assistant.")
    by_name = {kind.name: kind for kind in KINDS}
    cases = []
    for name, script in (("fibonacci", False), ("today", False), ("fibonacci", True), ("today", True)):
        code = fill(by_name[name].code, {"n": "50"})
        if script:
            text = {"fibonacci": "the first 50 Fibonacci numbers", "today": "today's date"}[name]
            head: list[Message] = [SystemMessage(content=phrases.JSON_PROMPTS[0])]
            user = UserMessage(content=f"Write a script to print {text}.")
            cases.append(Case("json", Conversation([*head, user]), code))
            continue
        text = {"fibonacci": "What are the first 50 Fibonacci numbers?", "today": "What's today's date?"}[name]
        messages: list[Message] = [system, UserMessage(content=text)]
        cases.append(Case("program", Conversation(messages, [tool]), code, tool.function.name))
        output = run_own(code, Random(7))
        answered = [*messages, calls((tool.function.name, {"code": code})), result(tool.function.name, output)]
        cases.append(Case("answer", Conversation(answered, [tool]), output.strip(), expects=(output.strip().lower(),)))
    haiku = Conversation([system, UserMessage(content="Write a haiku about San Francisco.")], [tool])
    return [*cases, Case("no_tool", haiku, "", expects=("san francisco",))]


def program_cases(rng: Random) -> list[Case]:
    """Return two calls, one answer and one JSON program of each kind."""
    cases, fixed = [], held_values()
    for kind in KINDS:
        core = phrases.PHRASES[kind.name]
        for i, values in enumerate(fixed[kind.name]):
            code = fill(kind.code, values)
            if i == 2:
                system = SystemMessage(content=rng.choice(phrases.JSON_PROMPTS))
                user = UserMessage(content=fill(ask(rng, core, script=rng.random() < 0.6), values))
                cases.append(Case("json", Conversation([system, user]), code))
                continue
            head, tools = setting(rng, None)
            name = next(t.function.name for t in tools if "code" in t.function.parameters["properties"])
            question = UserMessage(content=fill(ask(rng, core), values))
            cases.append(Case("program", Conversation([*head, question], tools), code, name))
            output = run_own(code, rng)
            if i == 0 and len(output) < 400:
                messages = [*head, question, calls((name, {"code": code})), result(name, output)]
                shown = output.strip()
                cases.append(Case("answer", Conversation(messages, tools), shown, expects=(shown.lower(),)))
    return cases


def talk_cases(rng: Random) -> list[Case]:
    """Return small talk, each once without tools and once where exec_python is at hand."""
    cases = []
    for held, text in [(talk, ask) for talk in talks.TALKS for ask in talk.asks]:
        for has_tools in (False, True):
            topic = rng.choice((*TOPICS, *CITIES))
            expects = tuple(e.replace("{t}", topic).lower() for e in held.expects)
            head, tools = setting(rng, None)
            prompt = Conversation([*head, UserMessage(content=text.replace("{t}", topic))], tools if has_tools else [])
            cases.append(Case("no_tool", prompt, "", expects=expects))
    return cases


def infill_cases(rng: Random) -> list[Case]:
    """Return holes after the bracket, after the first line, and elsewhere."""
    cases = []
    for source in FUNCTIONS:
        bracket, body, last = source.index("(") + 1, source.index("\n") + 1, source.rindex("\n") + 1
        holes = {(bracket, last), (body, len(source)), (bracket, source.index(")"))}
        holes.add((source.rindex(" ") + 1, len(source)))
        for start, end in sorted(holes):
            cases.append(Case("infill", Infill(source[:start], source[start:end], source[end:]), source[start:end]))
    return cases


def tool_cases(rng: Random) -> list[Case]:
    """Return calls of the held-out tools; the weather example of the README first."""
    cases: list[Case] = []
    for held in TOOLS:
        for template in held.requests * 2:
            arguments: dict[str, Any] = draw_arguments(rng, held)
            text = template
            if held is TOOLS[0] and not cases:
                arguments["location"] = "Paris"
            for name, value in arguments.items():
                text = text.replace("{" + name + "}", str(value))
            given = {n: v for n, v in arguments.items() if "{" + n + "}" in template}
            head, tools = setting(rng, held if cases else None)
            tools = tools if cases else [held.tool]
            prompt = Conversation([*head, UserMessage(content=text)], tools)
            cases.append(Case("new_tool", prompt, json.dumps(given), held.tool.function.name))
    return cases
