"""A script as users write it, started by torchrun, with a fault to plant: WHAT is memory, raise on 0 or idle."""

import datetime
import json
import sys
import time

import torch
import torch.distributed as dist

from mistral_local.demo.locate import demo_checkpoint
from mistral_local.engine.sharded_runner import ShardedRunner
from mistral_local.generate import generate
from mistral_local.parallel.launch import find_launch
from mistral_local.transformer import Transformer

PROMPTS = [[1, 5, 9, 300], [1, 7]]
SHORT_TIMEOUT = datetime.timedelta(seconds=2)


def plant(what: str) -> None:
    """Let a rank fail in its 20th step."""
    num_steps = 0
    begin_part = ShardedRunner.begin_part

    def begin(self, *args):
        nonlocal num_steps
        num_steps += 1
        if num_steps == 20:
            print("in the middle", file=sys.stderr, flush=True)
            time.sleep(1)
            if what == "memory":
                torch.empty(1 << 50)
            raise ValueError("planted")
        return begin_part(self, *args)

    ShardedRunner.begin_part = begin


def main(what: str) -> None:
    rank = find_launch().rank
    if what == "idle":
        dist.init_process_group("gloo", timeout=SHORT_TIMEOUT)
    model = Transformer.from_folder(demo_checkpoint(), max_batch_size=2)
    if rank == (0 if what.endswith("0") else 1) and what.startswith(("raise", "memory")):
        plant(what)
    for _ in range(2):
        if what == "idle" and rank == 0:
            time.sleep(3 * SHORT_TIMEOUT.total_seconds())
        result = generate(PROMPTS, model, max_tokens=60, temperature=0.8, seed=3, eos_id=2)
    if what == "idle":
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
