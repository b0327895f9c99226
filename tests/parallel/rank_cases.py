"""What every rank does in a launch; names are those of the tests."""

from collections.abc import Callable
from pathlib import Path

import torch
from rank_models import INPUT_IDS, MODELS, SEQLENS

from mistral_local.model.transformer import Transformer
from mistral_local.parallel.launch import find_launch

Case = Callable[[Path], None]
CASES: dict[str, Case] = {}
"""Name -> what every rank does with the folder of checkpoints."""


def layouts(world_size: int) -> list[tuple[int, bool]]:
    """(stages, expert parallel) that so many ranks can form."""
    stages = [stages for stages in (1, 2, 4) if world_size % stages == 0]
    return [(each, False) for each in stages] + [(each, True) for each in stages if each < world_size]


def logits_of(model_name: str) -> Case:
    def case(folder: Path) -> None:
        expected = torch.load(folder / f"{model_name}.logits")
        for stages, expert_parallel in layouts(find_launch().world_size):
            if expert_parallel and "moe" not in model_name:
                continue
            model = Transformer.from_folder(
                folder / model_name, num_pipeline_ranks=stages, expert_parallel=expert_parallel
            )
            torch.testing.assert_close(model.forward(INPUT_IDS, SEQLENS), expected, atol=1e-4, rtol=0)

    return case


for each_model in MODELS:
    CASES[f"logits of {each_model}"] = logits_of(each_model)
