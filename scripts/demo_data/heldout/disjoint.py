"""Keeps held-out prompts and answers out of the training stream, and proves it."""

import json

from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage

from scripts.demo_data.encoding import Encoder
from scripts.demo_data.heldout.cases import held_cases
from scripts.demo_data.plan import Plan
from scripts.demo_data.samples import Conversation, Infill, Sample


def fenced(program: str) -> str:
    """Return a program as answers without a tool show it."""
    return f"```python\n{program}\n```"


def program_in(text: str) -> str:
    """Return the program that an answer holds, as {"code": ...} or fenced, else ""."""
    if text.startswith('{"code"'):
        value = json.loads(text)["code"]
        return value if isinstance(value, str) else ""
    return text.split("```python\n")[1].split("\n```")[0] if "```python\n" in text else ""


class HeldOut:
    """The held-out texts: user messages, and answers that depend on values of the prompt."""

    def __init__(self) -> None:
        self.prompts: set[str] = set()
        self.answers: set[str] = set()
        for case in held_cases():
            if isinstance(case.prompt, Infill):
                self.prompts.add(case.prompt.prefix + "\0" + case.prompt.suffix)
            elif isinstance(case.prompt, Conversation):
                asked = [m for m in case.prompt.messages if isinstance(m, UserMessage)]
                self.prompts.add(str(asked[-1].content))
            if case.row in ("program", "json") and any(c.isdigit() for c in case.answer):
                self.answers.add(case.answer)
            if case.row == "new_tool":
                self.answers.add(case.answer)

    def accepts(self, sample: Sample) -> bool:
        """Say whether a sample holds no held-out prompt or answer."""
        if isinstance(sample, Infill):
            return sample.prefix + "\0" + sample.suffix not in self.prompts
        if not isinstance(sample, Conversation):
            return True
        return all(self._accepts_message(m) for m in sample.messages if isinstance(m, UserMessage | AssistantMessage))

    def _accepts_message(self, message: UserMessage | AssistantMessage) -> bool:
        if isinstance(message, UserMessage):
            return message.content not in self.prompts
        texts = [call.function.arguments for call in message.tool_calls or ()]
        if isinstance(message.content, str):
            texts.append(message.content)
        return all(text not in self.answers and program_in(text) not in self.answers for text in texts)

    def assert_absent(self, plan: Plan, encoder: Encoder) -> str:
        """Regenerate the whole stream; fail if a held-out prompt or answer occurs anywhere in its text.

        Returns:
            What was looked at.
        """
        needles = [text for text in self.prompts if "\0" not in text]
        needles += [answer for answer in self.answers if answer.startswith("{")]
        needles += [f(answer) for answer in self.answers if not answer.startswith("{") for f in (json.dumps, fenced)]
        num_tokens = 0
        for step in range(plan.steps):
            for ids, _ in plan.sequences(step, encoder, self.accepts):
                text = encoder.text.decode(ids)
                found = [needle for needle in needles if needle in text]
                if found:
                    raise AssertionError(f"step {step}: the training stream holds {found[0]!r}")
                num_tokens += len(ids)
        return f"{len(needles)} held-out prompts and answers, none of them in {num_tokens / 1e6:.1f}M training tokens"
