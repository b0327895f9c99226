"""Triton's products of few rows in its interpreter, against what torch makes of the same matrices.

bfloat16 is tested with single rows only: the interpreter's product of matrices multiplies its bits as integers.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from torch import Tensor

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.config import QUANT_FORMATS, EngineConfig, QuantFormat
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.kernels.quantized import QuantizedWeight, dequantize, quantize
from mistral_local.kernels.triton import MAX_ROWS, SWITCH
from mistral_local.model.linear import Linear, linears
from mistral_local.model.moe import MoeFeedForward
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU runs the kernels themselves: test_gpu.py", allow_module_level=True)

pytest.importorskip("triton")

from mistral_local.kernels.triton import linear as triton_linear
from mistral_local.kernels.triton import moe as triton_moe

MIXTURE = MoeArgs(num_experts=4, num_experts_per_tok=2)
FORMATS: list[QuantFormat | None] = [None, *QUANT_FORMATS]
TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.1}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def stored(weight: Tensor, quant_format: QuantFormat | None) -> Tensor | QuantizedWeight:
    return weight if quant_format is None else quantize(weight.float(), quant_format)


def in_floats(weight: Tensor | QuantizedWeight) -> Tensor:
    return (weight if isinstance(weight, Tensor) else dequantize(weight, torch.float32)).double()


def grouped_fp8(out_features: int, in_features: int, group: int) -> QuantizedWeight:
    bits = normal(out_features, in_features, seed=9).to(torch.float8_e4m3fn)
    return QuantizedWeight(bits, normal(out_features, in_features // group, seed=8).abs())


def assert_close(found: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCES[found.dtype]
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("num_rows", "dtype"),
    [
        (1, torch.float32),
        (3, torch.float32),
        (16, torch.float32),
        (1, torch.float16),
        (9, torch.float16),
        (1, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("columns", [96, 256])
@pytest.mark.parametrize("quant_format", FORMATS)
def test_products_are_those_of_torch(
    quant_format: QuantFormat | None, columns: int, num_rows: int, dtype: torch.dtype
) -> None:
    x = normal(num_rows, columns, dtype=dtype)
    weights = [stored(normal(out, columns, seed=out, dtype=dtype), quant_format) for out in (33, 1, 16)]
    found = triton_linear.linears(x, weights)
    for y, weight in zip(found, weights, strict=True):
        assert y.is_contiguous()
        assert_close(y, x.double() @ in_floats(weight).T)


@pytest.mark.parametrize("num_rows", [1, 2])
@pytest.mark.parametrize("group", [32, 64, 128, 256])
def test_scales_belong_to_their_columns(group: int, num_rows: int) -> None:
    """More and fewer columns in a step than share a scale, and a last step that is not full."""
    x, weight = normal(num_rows, 768, dtype=torch.float32), grouped_fp8(5, 768, group)
    assert_close(triton_linear.linears(x, [weight])[0], x.double() @ in_floats(weight).T)


@pytest.mark.parametrize("columns", [20, 5000])
def test_rows_may_have_any_length(columns: int) -> None:
    x, weight = normal(2, columns), normal(3, columns, seed=1)
    for rows in (x, x[:1]):
        assert_close(triton_linear.linears(rows, [weight])[0], rows.double() @ weight.double().T)


def test_every_value_of_fp8_is_read_exactly() -> None:
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    values = values[values.float().isfinite()]
    bits = torch.zeros(len(values), 32, dtype=torch.uint8)
    bits[:, 7] = values.view(torch.uint8)
    weight = QuantizedWeight(bits.view(torch.float8_e4m3fn), torch.ones(len(values), 1))
    for dtype, num_rows in ((torch.float32, 1), (torch.bfloat16, 1), (torch.float16, 2)):
        x = torch.zeros(num_rows, 32, dtype=dtype)
        x[:, 7] = 1
        for row in triton_linear.linears(x, [weight])[0]:
            assert torch.equal(row.float(), values.float())


def test_matrices_of_different_forms_take_more_launches() -> None:
    x = normal(2, 128)
    weights = [
        quantize(normal(6, 128, seed=1), "int8"),
        quantize(normal(6, 128, seed=2), "fp8"),
        normal(6, 128, seed=3),
    ]
    weights += [normal(5, 128, seed=4), normal(4, 128, seed=5)]
    for y, weight in zip(triton_linear.linears(x, weights), weights, strict=True):
        assert_close(y, x.double() @ in_floats(weight).T)


def test_what_the_kernels_cannot_read_goes_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")
    x = normal(2, 96)
    assert triton_linear.can_read(grouped_fp8(5, 96, 32), x)
    assert not triton_linear.can_read(grouped_fp8(5, 96, 48), x)
    assert not triton_linear.can_read(normal(96, 5).T, x)
    assert not triton_linear.can_read(normal(5, 96).half(), x)
    monkeypatch.setattr(triton_linear, "linears", lambda *_: pytest.fail("the kernels were called"))
    layer = Linear(96, 5)
    layer.take(grouped_fp8(5, 96, 48))
    assert_close(layer(x), x.double() @ in_floats(grouped_fp8(5, 96, 48)).T)
    for num_rows in (0, MAX_ROWS + 1):
        plain = Linear(96, 5)
        assert linears(normal(num_rows, 96), plain)[0].shape == (num_rows, 5)


def stacked(parts: list[Tensor | QuantizedWeight]) -> Tensor | QuantizedWeight:
    if isinstance(parts[0], Tensor):
        return torch.stack(parts)
    return QuantizedWeight(torch.stack([part.data for part in parts]), torch.stack([part.scales for part in parts]))


@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize(
    "experts",
    [[[2, 0]], [[-1, 3]], [[1, 2], [2, 1], [3, 2]], [[-1, -1], [0, 1], [-1, 1]], [[1], [0], [-1], [1], [1]]],
    ids=str,
)
def test_rows_go_through_their_experts(quant_format: QuantFormat | None, experts: list[list[int]]) -> None:
    chosen = torch.tensor(experts)
    num_tokens, k = chosen.shape
    parts = [[stored(normal(20, 64, seed=10 * s + e), quant_format) for e in range(4)] for s in range(2)]
    for x in (normal(num_tokens, 64), normal(num_tokens * k, 64)):
        found = triton_moe.expert_linears(x, chosen, [stacked(of_stack) for of_stack in parts])
        rows = x.repeat_interleave(k, dim=0) if len(x) == num_tokens else x
        for y, of_stack in zip(found, parts, strict=True):
            expected = [
                in_floats(of_stack[expert]) @ row.double() if expert >= 0 else torch.zeros(20, dtype=torch.float64)
                for expert, row in zip(chosen.flatten().tolist(), rows, strict=True)
            ]
            assert_close(y, torch.stack(expected))
            assert not y[chosen.flatten() < 0].any()


@pytest.mark.parametrize("quant_format", [None, "int4"])
@pytest.mark.parametrize("num_tokens", [1, 6])
def test_parts_of_the_experts_give_parts_of_the_sum(
    num_tokens: int, quant_format: QuantFormat | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = TransformerArgs(
        dim=32, n_layers=1, head_dim=8, hidden_dim=64, n_heads=4, n_kv_heads=2, norm_eps=1e-5, vocab_size=9, moe=MIXTURE
    )
    whole = MoeFeedForward(args, MIXTURE).requires_grad_(False)
    layers = [whole]
    for experts in (range(2), range(2, 4)):
        part = MoeFeedForward(args, MIXTURE).requires_grad_(False)
        part.load_state_dict(whole.state_dict())
        part.hold(experts)
        layers.append(part)
    if quant_format:
        for layer in layers:
            for matrix in (module for module in layer.experts.modules() if isinstance(module, Linear)):
                matrix.take(quantize(matrix.weight, quant_format))
    x = normal(num_tokens, 32)
    expected = whole(x)
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setattr(whole, "_sorted", lambda *_: pytest.fail("the kernels were not called"))
    assert_close(whole(x), expected.double())
    assert_close(layers[1](x) + layers[2](x), expected.double())


@pytest.mark.parametrize(
    ("quant_format", "moe"),
    [
        (None, None),
        ("int4", MIXTURE),
        pytest.param(None, MIXTURE, marks=pytest.mark.long),
        *[pytest.param(quant_format, None, marks=pytest.mark.long) for quant_format in QUANT_FORMATS],
        *[pytest.param(quant_format, MIXTURE, marks=pytest.mark.long) for quant_format in ("int8", "fp8")],
    ],
    ids=lambda value: "mixture" if value == MIXTURE else str(value),
)
def test_a_model_gives_the_same_answers_on_these_kernels(
    quant_format: QuantFormat | None, moe: MoeArgs | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path, moe=moe, n_heads=2, n_kv_heads=1, head_dim=24, n_layers=1, vocab_size=99)
    model = Transformer.from_folder(folder, quantize=quant_format)
    config = EngineConfig(max_num_seqs=2, max_context=64, block_size=4)
    prompts = [list(range(3, 22)), [4]]
    params = [SamplingParams(max_tokens=max_tokens, logprobs=True) for max_tokens in (3, 2)]

    def answers() -> list[Sequence]:
        return Engine(model, config).generate(prompts, params)

    expected = answers()
    monkeypatch.setenv(SWITCH, "1")
    shapes: list[tuple[int, ...]] = []
    multiply = triton_linear.linears
    monkeypatch.setattr(triton_linear, "linears", lambda x, w: shapes.append(tuple(x.shape)) or multiply(x, w))
    found = answers()
    assert {1, 2} <= {num_rows for num_rows, _ in shapes} <= set(range(1, MAX_ROWS + 1))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.new_tokens == theirs.new_tokens
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_for_gpus(capability: int, tmp_path: Path) -> None:
    """In a process without the interpreter; from an empty cache, so that the compiler runs."""
    script = Path(__file__).parent / "triton_compile.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(script), str(capability)],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compiled = {line.split()[0]: "" for line in done.stdout.splitlines()}
    assert set(compiled) == {
        "_rms_norm",
        "_swiglu",
        "_rotate_and_store",
        "_attend",
        "_merge",
        "_linears",
        "_expert_linears",
    }
