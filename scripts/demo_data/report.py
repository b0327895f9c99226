"""The held-out evaluation and its table: target, reached, last committed."""

import json
from collections import Counter
from pathlib import Path

from mistral_local.generate import generate
from mistral_local.model.transformer import Transformer
from scripts.demo_data.encoding import Encoder
from scripts.demo_data.heldout.cases import Case, held_cases
from scripts.demo_data.heldout.checks import Reply, is_right, parse
from scripts.demo_data.samples import Infill

RATES = Path(__file__).parent / "rates.json"
TARGETS = {"program": 0.95, "answer": 0.95, "no_tool": 0.95, "json": 0.95, "infill": 0.80, "new_tool": 0.70}
MAX_TOKENS = 800  # of an answer; 50 Fibonacci numbers take about 500
BATCH = 16  # prompts that run at the same time


def evaluate(checkpoint: Path) -> tuple[dict[str, float], list[tuple[Case, Reply]]]:
    """Answer every held-out prompt greedily with the project's engine; return the rate of each row, and the failures."""
    encoder = Encoder(checkpoint / "tekken.json")
    model = Transformer.from_folder(checkpoint, max_batch_size=BATCH)
    cases = held_cases()
    answers, _ = generate(
        [prompt_of(encoder, case) for case in cases],
        model,
        max_tokens=MAX_TOKENS,
        temperature=0.0,
        eos_id=encoder.text.eos_id,
        prompt_logprobs=False,
    )
    replies = [parse(encoder, answer) for answer in answers]
    asked, right = Counter(case.row for case in cases), Counter[str]()
    failures = []
    for case, reply in zip(cases, replies, strict=True):
        if is_right(case, reply):
            right[case.row] += 1
        else:
            failures.append((case, reply))
    return {row: right[row] / asked[row] for row in TARGETS}, failures


def prompt_of(encoder: Encoder, case: Case) -> list[int]:
    """Return the ids a runtime gets for a case."""
    return encoder.prompt_of_infill(case.prompt) if isinstance(case.prompt, Infill) else encoder.encode(case.prompt)[0]


def describe(case: Case) -> str:
    """Return a case in one line."""
    if isinstance(case.prompt, Infill):
        return f"{case.prompt.prefix!r} ... {case.prompt.suffix!r}"
    return repr(case.prompt.messages[-1].content) if hasattr(case.prompt, "messages") else ""


def last_rates() -> dict[str, float]:
    """Return the committed rates, empty before the first commit."""
    if not RATES.exists():
        return {}
    rates: dict[str, float] = json.loads(RATES.read_text(encoding="utf-8"))
    return rates


def print_report(rates: dict[str, float], failures: list[tuple[Case, Reply]], *, shown: int = 10) -> bool:
    """Print table and failures; return whether no rate is below the committed one."""
    last = last_rates()
    asked = Counter(case.row for case in held_cases())
    print(f"{'':10} {'target':>8} {'reached':>8} {'last':>8} {'prompts':>8}")
    for row, target in TARGETS.items():
        committed = f"{last[row]:.1%}" if row in last else "-"
        print(f"{row:10} {target:8.1%} {rates[row]:8.1%} {committed:>8} {asked[row]:8}")
    step = max(1, len(failures) // max(1, shown))
    for case, reply in failures[::step][:shown]:
        print(f"{case.row}: {describe(case)}\n    wanted {case.answer or case.expects!r}\n    found  {str(reply)!r}")
    return all(rates[row] >= rate for row, rate in last.items())


def write_rates(rates: dict[str, float]) -> None:
    """Make these rates the committed ones."""
    RATES.write_text(
        json.dumps({row: round(rate, 4) for row, rate in rates.items()}, indent=2) + "\n", encoding="utf-8"
    )
