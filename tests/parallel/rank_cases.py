"""What every rank does in a launch; names are those of the tests."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import torch
from rank_models import INPUT_IDS, MODELS, SEQLENS
from rank_workloads import ASKED, CALLS, ENGINE_WORK, assert_same

from mistral_local.engine.follower import run_on_all_ranks
from mistral_local.model.transformer import Transformer
from mistral_local.parallel.launch import find_launch

Case = Callable[[Path], None]
CASES: dict[str, Case] = {}
"""Name -> what every rank does with the folder of checkpoints."""

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
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def answers(model_name: str, folder: Path) -> None:
    """Every workload in every layout; all that differ are named."""
    expected = json.loads((folder / f"{model_name}.answers").read_text())
    wrong = []
    for layout in layouts(model_name):
        model = load(folder / model_name, layout)
        for name in ASKED[model_name]:
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
        torch.testing.assert_close(model.forward(INPUT_IDS, SEQLENS), expected, atol=1e-4, rtol=0)


for each_model in MODELS:
    CASES[f"logits of {each_model}"] = functools.partial(logits, each_model)
for each_model in ASKED:
    CASES[f"answers of {each_model}"] = functools.partial(answers, each_model)
CASES["adapter"] = adapter
