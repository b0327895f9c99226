"""What every rank does in a launch; names are those of the tests."""

import contextlib
import functools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rank_models import INPUT_IDS, MODELS, SEQLENS
from rank_workloads import ASKED, CALLS, ENGINE_WORK, OF_MANY, assert_same, make_engine, tool_calls

from mistral_local.demo.locate import demo_checkpoint
from mistral_local.engine.follower import run_on_all_ranks
from mistral_local.model.transformer import Transformer
from mistral_local.parallel.launch import find_launch
from mistral_local.sampling.params import SamplingParams

Case = Callable[[Path], None]
CASES: dict[str, Case] = {}
"""Name -> what every rank does with the folder of checkpoints."""

FILES_ONLY = ("pth", "hf", "hf_moe")
"""Models that differ from others in their files only; two ranks read them."""


def cases_of(num_ranks: int) -> list[str]:
    """The names of what so many ranks do."""
    return [name for name in CASES if num_ranks == 2 or not name.endswith(FILES_ONLY)]


Layout = tuple[int, bool]
"""Stages, and whether ranks hold different experts."""


def layouts(model_name: str) -> list[Layout]:
    """What the ranks of this launch can form."""
    world_size = find_launch().world_size
    stages = [stages for stages in (1, 2, 4) if world_size % stages == 0]
    with_experts = [each for each in stages if each < world_size and "moe" in model_name]
    return [(each, False) for each in stages] + [(each, True) for each in with_experts]


@functools.lru_cache(maxsize=1)
def load(folder: Path, layout: Layout) -> Transformer:
    stages, expert_parallel = layout
    return Transformer.from_folder(folder, num_pipeline_ranks=stages, expert_parallel=expert_parallel)


def logits(model_name: str, folder: Path) -> None:
    expected = torch.load(folder / f"{model_name}.logits")
    for layout in layouts(model_name):
        got = load(folder / model_name, layout).forward(INPUT_IDS, SEQLENS)
        torch.testing.assert_close(got.cpu(), expected, atol=1e-4, rtol=0)


def answers(model_name: str, folder: Path) -> None:
    """Every workload in every layout; all that differ are named."""
    expected = json.loads((folder / f"{model_name}.answers").read_text())
    wrong = []
    for layout in layouts(model_name):
        model = load(folder / model_name, layout)
        for name in ASKED[model_name]:
            if find_launch().world_size > 2 and name not in OF_MANY:
                continue
            if name in CALLS:
                got = CALLS[name](model)
            else:
                got = run_on_all_ranks(model, functools.partial(ENGINE_WORK[name], model))
            try:
                assert_same(got, expected[name], name)
            except AssertionError as error:
                wrong.append(f"{layout}: {error}")
    assert not wrong, "\n".join(wrong)


def adapter(folder: Path) -> None:
    expected = torch.load(folder / "adapted.logits")
    for layout in layouts("moe"):
        model = Transformer.from_folder(folder / "moe", num_pipeline_ranks=layout[0], expert_parallel=layout[1])
        model.load_lora(folder / "adapter.safetensors")
        torch.testing.assert_close(model.forward(INPUT_IDS, SEQLENS).cpu(), expected, atol=1e-4, rtol=0)


def tools(folder: Path) -> None:
    model = Transformer.from_folder(demo_checkpoint(), dtype=torch.float32)
    got = run_on_all_ranks(model, functools.partial(tool_calls, model))
    assert_same(got, json.loads((folder / "demo.calls").read_text()))


def collectives(folder: Path) -> None:
    """Per token and layer two sums of [T, dim] in a stage, one of the embedding, and two numbers of the argmax."""
    world_size = find_launch().world_size
    for stages in (each for each in (1, 2) if each < world_size):
        model = Transformer.from_folder(folder / "dense", num_pipeline_ranks=stages)
        exchanged: Counter[tuple[str, int]] = Counter()
        with counting(exchanged):
            run_on_all_ranks(model, functools.partial(decode_one, model))
        place, dim = model.world.place, model.args.dim
        per_step = {("all_reduce", dim): 2 * len(model.layers) + place.is_first_stage}
        if place.is_last_stage:
            per_step["all_gather", 2] = 1
        if stages > 1:
            per_step["isend" if place.is_first_stage else "recv", dim] = 1
        expected = {what: NUM_DECODED * times for what, times in per_step.items()}
        assert dict(exchanged) == expected, f"{dict(exchanged)} is not {expected}"


NUM_DECODED = 5


def decode_one(model: Transformer) -> None:
    """Steps of one token each."""
    make_engine(model).generate([[7]], [SamplingParams(max_tokens=NUM_DECODED)])


@contextlib.contextmanager
def counting(exchanged: Counter[tuple[str, int]]) -> Iterator[None]:
    """Count what goes between ranks by torch: (operation, numbers of the caller's tensor)."""
    before = {
        name: getattr(dist, name) for name in ("all_reduce", "all_gather", "gather", "broadcast", "isend", "recv")
    }

    def counted(name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            exchanged[name, args[1 if name == "all_gather" else 0].numel()] += 1
            return before[name](*args, **named)

        return call

    for name in before:
        setattr(dist, name, counted(name))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(dist, name, function)


def memory(folder: Path) -> None:
    """Loading, with a conversion so that nothing stays mapped, takes the rank's share and at most one tensor more."""
    if torch.cuda.is_available():
        return
    world_size, whole = find_launch().world_size, 4 * 20_500_000
    for stages in (each for each in (1, 2, 4) if world_size % each == 0):
        before, peak = anonymous_bytes(), PeakOfAnonymous()
        with peak:
            model = Transformer.from_folder(folder / "large", num_pipeline_ranks=stages, dtype=torch.float32)
        held = sum(parameter.nbytes for parameter in model.parameters())
        largest = 4 * 8192 * 512
        assert held < 1.3 * whole / world_size + largest, f"{held} bytes of {whole} on one of {world_size} ranks"
        taken = peak.most - before
        assert taken < held + largest + SLACK_BYTES, f"{taken} bytes for {held}"
        if stages == 1:  # later, what was freed before is taken again
            assert taken > 0.7 * held, "the measurement sees what is allocated"
        del model


SLACK_BYTES = 16 << 20


def anonymous_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class PeakOfAnonymous:
    """The most memory of this process within a context, looked at every millisecond."""

    def __enter__(self) -> "PeakOfAnonymous":
        self.most = anonymous_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.001):
            self.most = max(self.most, anonymous_bytes())

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self.most = max(self.most, anonymous_bytes())


for each_model in MODELS:
    CASES[f"logits of {each_model}"] = functools.partial(logits, each_model)
for each_model in ASKED:
    CASES[f"answers of {each_model}"] = functools.partial(answers, each_model)
CASES |= {each.__name__: each for each in (adapter, tools, collectives, memory)}
