"""What a layer asks of a GPU, by name: with Triton's kernels few launches a layer, and none may creep in."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from mistral_local.args import MoeArgs
from mistral_local.attention.select import select_backend
from mistral_local.config import QUANT_FORMATS, EngineConfig, QuantFormat
from mistral_local.engine.engine import Engine
from mistral_local.kernels.triton import SWITCH
from mistral_local.model import linear
from mistral_local.model.transformer import TransformerBlock
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("launches are counted in the interpreter", allow_module_level=True)

pytest.importorskip("triton")

from triton.runtime.interpreter import GridExecutor

from mistral_local.kernels.triton import paged_attention

MIXTURE = MoeArgs(num_experts=4, num_experts_per_tok=2)
ATTENTION = ["_linears", "_rotate_and_store", "_attend", "_merge", "_linears"]
DENSE = [*ATTENTION, "_gate_up", "_linears"]
EXPERTS = [*ATTENTION, "_route", "_expert_gate_up", "_expert_down"]
WITHOUT_KERNEL = {"empty", "empty_like", "new_empty", "_unsafe_view", "lift_fresh"}


class Launches(TorchDispatchMode):
    """Names of kernels: Triton's own, and operations of torch that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.is_interpreting = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not (self.is_interpreting or func.is_view or name in WITHOUT_KERNEL):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The launches of each layer that runs, with Triton's kernels on and attention divided."""
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr(paged_attention, "splits", lambda *_: 2)
    select_backend.cache_clear()
    layers: list[list[str]] = []
    running: list[Launches] = []
    forward, launch = TransformerBlock.forward, GridExecutor.__call__

    def run(block: TransformerBlock, *args: Any, **kwargs: Any) -> Any:
        with Launches() as launches:
            running.append(launches)
            x = forward(block, *args, **kwargs)
        layers.append(running.pop().names)
        return x

    def interpret(executor: Any, *args: Any, **kwargs: Any) -> None:
        launches = running[-1] if running else Launches()
        launches.names.append(executor.fn.__name__)
        launches.is_interpreting = True
        launch(executor, *args, **kwargs)
        launches.is_interpreting = False

    monkeypatch.setattr(TransformerBlock, "forward", run)
    monkeypatch.setattr(GridExecutor, "__call__", interpret)
    yield layers
    select_backend.cache_clear()


def decode(model: Transformer, num_seqs: int, max_tokens: int = 3) -> None:
    config = EngineConfig(max_num_seqs=num_seqs, max_context=32, block_size=4)
    Engine(model, config).generate(
        [[5 + row] for row in range(num_seqs)], [SamplingParams(max_tokens=max_tokens)] * num_seqs
    )


@pytest.mark.parametrize(
    ("moe", "quant_format", "num_seqs"),
    [
        (None, None, 3),
        (None, "int4", 1),
        (MIXTURE, None, 1),
        *[pytest.param(None, quant_format, 2, marks=pytest.mark.long) for quant_format in QUANT_FORMATS],
        *[pytest.param(MIXTURE, quant_format, 2, marks=pytest.mark.long) for quant_format in QUANT_FORMATS],
    ],
    ids=lambda value: "mixture" if value == MIXTURE else str(value),
)
def test_a_layer_of_a_decode_step_is_few_launches(
    moe: MoeArgs | None, quant_format: QuantFormat | None, num_seqs: int, layers: list[list[str]], tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path, moe=moe, n_heads=2, n_kv_heads=1, head_dim=16, n_layers=2, vocab_size=99)
    model = Transformer.from_folder(folder, quantize=quant_format)
    model.join_matrices()  # as loading to a GPU does, instead of the first step
    decode(model, num_seqs, max_tokens=2)
    assert layers == [DENSE if moe is None else EXPERTS] * 4


@pytest.mark.parametrize(
    ("moe", "quant_format"),
    [
        (None, "int8"),
        (MIXTURE, None),
        pytest.param(MIXTURE, "int4", marks=pytest.mark.long),
    ],
    ids=lambda value: "mixture" if value == MIXTURE else str(value),
)
def test_larger_steps_by_bits_and_experts_are_few_launches_too(
    moe: MoeArgs | None, quant_format: QuantFormat | None, layers: list[list[str]], tmp_path: Path
) -> None:
    """Sums and norms are kernels of their own there."""
    folder = write_checkpoint(tmp_path, moe=moe, n_heads=2, n_kv_heads=1, head_dim=16, n_layers=2, vocab_size=99)
    model = Transformer.from_folder(folder, quantize=quant_format)
    model.join_matrices()
    decode(model, 17, max_tokens=1)
    up = ["linear"] * 3 if quant_format is None else ["_linears"]
    layer = ["_rms_norm", *up, "_rotate_and_store", "_attend", "_merge", up[0], "_rms_norm"]
    layer += ["_gate_up", "_linears"] if moe is None else ["_route", "_expert_gate_up", "_expert_down"]
    assert layers == [layer, layer]


@pytest.mark.parametrize("is_joined", [False, True])
def test_a_layer_of_a_larger_step_adds_what_it_norms(
    is_joined: bool, layers: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than Triton multiplies: products are those of torch, one for all matrices that lie together."""
    monkeypatch.setattr(linear, "is_joined_on", lambda device: is_joined)
    folder = write_checkpoint(tmp_path, n_heads=2, n_kv_heads=1, head_dim=16, n_layers=2, vocab_size=99)
    model = Transformer.from_folder(folder)
    model.join_matrices()
    decode(model, 17, max_tokens=1)
    qkv, up = (["linear"], ["linear"]) if is_joined else (["linear"] * 3, ["linear"] * 2)
    layer = ["_rms_norm", *qkv, "_rotate_and_store", "_attend", "_merge", "linear"]
    layer += ["_rms_norm", *up, "_swiglu", "linear"]
    assert layers == [layer, layer]
