"""Start ranks as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import torch

TESTS = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def environment(num_ranks: int = 2) -> dict[str, str]:
    """One thread per rank, a GPU for each or none for any, and the source that is tested."""
    paths = [str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")]
    gpus = {} if torch.cuda.device_count() >= num_ranks else {"CUDA_VISIBLE_DEVICES": ""}
    return os.environ | gpus | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def torchrun(num_ranks: int, *command: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a command on so many ranks of this machine until it ends."""
    return subprocess.run(
        [*TORCHRUN, "--standalone", f"--nproc-per-node={num_ranks}", *command],
        env=environment(num_ranks),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
