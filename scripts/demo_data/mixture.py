"""Which samples are drawn when: copying drills first, then every skill."""

from dataclasses import dataclass
from random import Random

from mistral_common.protocol.instruct.messages import SystemMessage

from scripts.demo_data.chat import SYSTEM_PROMPTS, talk_turn
from scripts.demo_data.copying import drill_turn
from scripts.demo_data.exercises import exec_python, json_system, json_turn, script_turn, tool_turn
from scripts.demo_data.infills import infill
from scripts.demo_data.made_tools import draw_tool, made_turn
from scripts.demo_data.prose import prose
from scripts.demo_data.samples import Conversation, Message, Sample, awaits_result

DRILLS_AT_START, DRILLS_LATER = 0.6, 0.15  # share of samples
DRILLS_UNTIL = 0.3  # of the curriculum, falling linearly
LATE = (0.30, 0.44, 0.15, 0.12, 0.28, 0.02)  # weights of the makers in `draw_sample`; infillings are short


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the curriculum is, 0 to 1; decides the mixture."""

    done: float

    @property
    def risen(self) -> float:
        """0 to 1 over the first part of the curriculum."""
        return min(self.done / DRILLS_UNTIL, 1.0)

    @property
    def drills(self) -> float:
        """Share of copying drills."""
        return DRILLS_AT_START + (DRILLS_LATER - DRILLS_AT_START) * self.risen

    @property
    def is_late(self) -> bool:
        """Whether copying is learnt, and rarer skills get a larger share."""
        return self.risen == 1.0

    @property
    def weights(self) -> tuple[float, ...]:
        """Shares of the samples that are no drills, in the order of `draw_sample`."""
        return LATE if self.is_late else (0.36, 0.1 + 0.25 * self.risen, 0.12, 0.10, 0.10, 0.015)

    @property
    def most_output(self) -> int:
        """Longest tool output that is answered, in characters."""
        return 60 if self.done < 0.3 else (160 if self.done < 0.6 else 700)


def draw_sample(rng: Random, progress: Progress) -> Sample:
    """Draw one sample for this moment of the training."""
    if rng.random() < progress.drills:
        return Conversation([m for _ in range(rng.randint(1, 12)) for m in drill_turn(rng)])
    makers = (with_interpreter, with_made_tools, json_mode, without_tools, infill_sample, prose_sample)
    return rng.choices(makers, progress.weights)[0](rng, progress)


def infill_sample(rng: Random, progress: Progress) -> Sample:
    """Return a function with a hole."""
    return infill(rng)


def prose_sample(rng: Random, progress: Progress) -> Sample:
    """Return plain text."""
    return prose(rng)


def json_mode(rng: Random, progress: Progress) -> Sample:
    """Return a chat whose system prompt asks for JSON."""
    system = SystemMessage(content=json_system(rng))
    return Conversation([system, *(m for _ in range(rng.randint(1, 5)) for m in json_turn(rng))])


def without_tools(rng: Random, progress: Progress) -> Sample:
    """Return a chat without tools: small talk, or programs as text."""
    turns = [talk_turn(rng) if rng.random() < 0.75 else script_turn(rng) for _ in range(rng.randint(1, 4))]
    return Conversation([*system_prompt(rng), *(m for turn in turns for m in turn)])


def system_prompt(rng: Random) -> list[Message]:
    """Return no system message or a usual one."""
    return [] if rng.random() < 0.5 else [SystemMessage(content=rng.choice(SYSTEM_PROMPTS))]


def with_interpreter(rng: Random, progress: Progress) -> Sample:
    """Return a chat with exec_python alone: questions, their answers, and small talk in between."""
    tool = exec_python(rng)
    name = tool.function.name
    messages = system_prompt(rng)
    for _ in range(rng.randint(1, 7)):
        is_talk = rng.random() < 0.15
        messages += talk_turn(rng) if is_talk else tool_turn(rng, name, most_output=progress.most_output)
        if awaits_result(messages):
            break
    return Conversation(messages, [tool])


def with_made_tools(rng: Random, progress: Progress) -> Sample:
    """Return a chat with one to three made-up tools, and sometimes exec_python among them."""
    if progress.is_late and rng.random() < 0.5:
        return single_call(rng, progress)
    made = [draw_tool(rng) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    interpreter = exec_python(rng) if rng.random() < 0.4 else None
    tools = [m.tool for m in made] + ([interpreter] if interpreter else [])
    rng.shuffle(tools)
    messages = system_prompt(rng)
    for _ in range(rng.randint(1, 6)):
        if rng.random() < 0.12:
            messages += talk_turn(rng)
        elif interpreter and rng.random() < 0.4:
            messages += tool_turn(rng, interpreter.function.name, most_output=progress.most_output)
        else:
            messages += made_turn(rng, rng.choice(made))
        if awaits_result(messages):
            break
    return Conversation(messages, tools)


def single_call(rng: Random, progress: Progress) -> Sample:
    """Return one request and its call, so that the name must be read in the list of tools, not in an earlier call."""
    made = [draw_tool(rng) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    interpreter = exec_python(rng) if rng.random() < 0.4 else None
    tools = [m.tool for m in made] + ([interpreter] if interpreter else [])
    rng.shuffle(tools)
    if interpreter and rng.random() < 0.5:
        turn = tool_turn(rng, interpreter.function.name, most_output=progress.most_output)
    else:
        turn = made_turn(rng, rng.choice(made))
    return Conversation([*system_prompt(rng), *turn], tools)
