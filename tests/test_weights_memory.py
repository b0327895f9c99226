"""Peak host memory while loading, measured in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint

from mistral_local.args import MoeArgs

MB = 1 << 20
SHAPE = {
    "dim": 512,
    "hidden_dim": 2048,
    "n_layers": 4,
    "head_dim": 64,
    "n_heads": 8,
    "n_kv_heads": 4,
    "vocab_size": 8192,
}

MEASURE = """
import json, resource, sys, threading
from pathlib import Path

import torch

sys.path.insert(0, sys.argv[1])
from test_weights_load import SlotModel, opened
from checkpoints import random_weights, tensor_shapes
from mistral_local.errors import OutOfMemoryError
from mistral_local.weights import load_weights

folder = Path(sys.argv[2])
shapes = tensor_shapes(json.loads((folder / "params.json").read_text()))
weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}

def anonymous():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

result = {}
for dtype in (None, torch.float32):
    model = SlotModel(weights)
    peak = before = anonymous()
    finished = threading.Event()

    def watch():
        global peak
        while not finished.wait(0.001):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with opened(folder) as checkpoint:
        load_weights(model, checkpoint, device="cpu", dtype=dtype)
    finished.set()
    watcher.join()
    result[str(dtype)] = [max(peak, anonymous()) - before, sum(p.nbytes for p in model.parameters())]
    del model

with open("/proc/self/statm") as line:
    mapped = int(line.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + (64 << 20), resource.RLIM_INFINITY))
model = SlotModel(weights)
try:
    with opened(folder) as checkpoint:
        load_weights(model, checkpoint, device="cpu", dtype=torch.float64)
except OutOfMemoryError as error:
    result["error"] = str(error)
result["untouched"] = all(p.is_meta for p in model.parameters())
print(json.dumps(result))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads RssAnon from /proc")
@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_loading_takes_the_bytes_of_the_model_and_at_most_one_tensor(tmp_path: Path, kind: str) -> None:
    moe = MoeArgs(num_experts=4, num_experts_per_tok=2) if kind == "moe" else None
    shape = SHAPE | ({} if moe else {"n_layers": 14})
    write_checkpoint(tmp_path, dtype=torch.bfloat16, moe=moe, shards=2, **shape)
    stored = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert stored > 100 * MB

    command = [sys.executable, "-c", MEASURE, str(Path(__file__).parent), str(tmp_path)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    largest = SHAPE["vocab_size"] * SHAPE["dim"] * 4
    slack = 8 * MB
    as_stored, converted = result["None"], result["torch.float32"]
    if kind == "dense":  # nothing but views of the file
        assert as_stored[0] < slack, f"{as_stored[0] / MB:.0f} MB of memory for mapped weights"
    assert as_stored[0] < as_stored[1] + largest + slack
    assert converted[0] < converted[1] + largest + slack, f"{converted[0] / MB:.0f} of {converted[1] / MB:.0f} MB"
    assert converted[0] > 0.9 * converted[1], "the measurement sees what is allocated"
    assert "the weights need" in result["error"]
    assert result["untouched"]
