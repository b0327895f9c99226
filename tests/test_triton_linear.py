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
from torch.nn.functional import silu

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.config import QUANT_FORMATS, EngineConfig, QuantFormat
from mistral_local.engine.engine import Engine
from mistral_local.engine.sequence import Sequence
from mistral_local.kernels.quantized import QuantizedWeight, dequantize, quantize
from mistral_local.kernels.rms_norm import Normed, rms_norm_by_torch, rows_of
from mistral_local.kernels.swiglu import swiglu_by_torch
from mistral_local.kernels.triton import MAX_ROWS, MAX_ROWS_QUANTIZED, MAX_TOKENS_OF_EXPERTS, SWITCH
from mistral_local.model.linear import Linear, gated_linears, linears
from mistral_local.model.moe import MoeFeedForward, route
from mistral_local.sampling.params import SamplingParams
from mistral_local.transformer import Transformer

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU runs the kernels themselves: test_gpu.py", allow_module_level=True)

pytest.importorskip("triton")

from mistral_local.kernels.triton import linear as triton_linear
from mistral_local.kernels.triton import moe as triton_moe
from mistral_local.kernels.triton import product as triton_product
from mistral_local.kernels.triton import route as triton_route

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


@pytest.mark.parametrize(
    ("num_rows", "dtype"),
    [(1, torch.float32), (2, torch.float32), (7, torch.float16), (16, torch.float32), (1, torch.bfloat16)],
)
@pytest.mark.parametrize("quant_format", FORMATS)
def test_norm_residual_and_gate_are_part_of_a_product(
    quant_format: QuantFormat | None, num_rows: int, dtype: torch.dtype
) -> None:
    columns = 288  # the last step is not full
    x, scale = normal(num_rows, columns, dtype=dtype) * 3, normal(columns, seed=1, dtype=dtype)
    weights = [stored((normal(out, columns, seed=out) / 8).to(dtype), quant_format) for out in (33, 1, 16)]
    rows = Normed(x, scale, 1e-5)
    normed = rms_norm_by_torch(x, scale, 1e-5).double()
    for y, weight in zip(triton_linear.linears(rows, weights), weights, strict=True):
        assert_close(y, normed @ in_floats(weight).T)
    residual = normal(num_rows, 33, seed=3, dtype=dtype)
    product = triton_linear.linears(x, weights[:1])[0]
    found = triton_linear.linears(x, weights[:1], residual)[0]
    # The interpreter cuts off what bfloat16 has no bits for.
    torch.testing.assert_close(found, residual + product, atol=0, rtol=2**-7 if dtype == torch.bfloat16 else 0)
    other = stored((normal(33, columns, seed=4) / 8).to(dtype), quant_format)
    gate, up = triton_linear.linears(rows, [weights[0], other])
    torch.testing.assert_close(triton_linear.gate_up(rows, weights[0], other), swiglu_by_torch(gate, up))


@pytest.mark.parametrize(
    ("quant_format", "num_rows", "dtype"),
    [("int4", 17, torch.float32), ("int8", 33, torch.float16), ("int4", 64, torch.float16), ("fp8", 64, torch.float32)],
)
def test_quantized_matrices_take_more_rows(quant_format: QuantFormat, num_rows: int, dtype: torch.dtype) -> None:
    """Two groups of int4; norm, residual and gate as with few rows."""
    x, scale, residual = (normal(*shape, dtype=dtype) for shape in ((num_rows, 256), (256,), (num_rows, 18)))
    weights = [stored((normal(18, 256, seed=seed) / 16).to(dtype), quant_format) for seed in (1, 2)]
    gate, up = (rms_norm_by_torch(x, scale, 1e-5).double() @ in_floats(weight).T for weight in weights)
    for y, expected in zip(triton_linear.linears(Normed(x, scale, 1e-5), weights), (gate, up), strict=True):
        assert_close(y, expected)
    assert_close(triton_linear.gate_up(Normed(x, scale, 1e-5), *weights), silu(gate) * up)
    expected = x.double() @ in_floats(weights[0]).T + residual.double()
    assert_close(triton_linear.linears(x, weights[:1], residual)[0], expected)


def test_a_gate_of_another_form_takes_more_launches() -> None:
    x, w1, w3 = normal(2, 128), normal(6, 128, seed=1) / 8, quantize(normal(6, 128, seed=2) / 8, "int8")
    expected = silu(x.double() @ w1.double().T) * (x.double() @ in_floats(w3).T)
    assert_close(triton_linear.gate_up(x, w1, w3), expected)


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
    assert triton_product.can_read(grouped_fp8(5, 96, 32), x)
    assert not triton_product.can_read(grouped_fp8(5, 96, 48), x)
    assert not triton_product.can_read(normal(96, 5).T, x)
    assert not triton_product.can_read(normal(5, 96).half(), x)
    monkeypatch.setattr(triton_linear, "linears", lambda *_: pytest.fail("the kernels were called"))
    layer = Linear(96, 5)
    layer.take(grouped_fp8(5, 96, 48))
    expected = x.double() @ in_floats(grouped_fp8(5, 96, 48)).T
    assert_close(layer(x), expected)
    assert_close(layer(x, normal(2, 5)), expected + normal(2, 5).double())
    normed = rms_norm_by_torch(x, torch.ones(96), 1e-5)
    assert_close(linears(Normed(x, torch.ones(96), 1e-5), layer)[0], layer(normed).double())
    assert_close(gated_linears(x, layer, layer), silu(expected) * expected)
    plain, quantized = Linear(96, 5), Linear(96, 5)
    quantized.take(grouped_fp8(5, 96, 32))
    for many, its_layer in ((0, plain), (MAX_ROWS + 1, plain), (0, quantized), (MAX_ROWS_QUANTIZED + 1, quantized)):
        assert linears(normal(many, 96), its_layer)[0].shape == (many, 5)


def stacked(parts: list[Tensor | QuantizedWeight]) -> Tensor | QuantizedWeight:
    if isinstance(parts[0], Tensor):
        return torch.stack(parts)
    return QuantizedWeight(torch.stack([part.data for part in parts]), torch.stack([part.scales for part in parts]))


@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize(
    "experts",
    [
        [[2, 0]],
        [[-1, 3]],
        [[-1, -1]],
        [[1, 2], [2, 1], [3, 2]],
        [[-1, -1], [0, 1], [-1, 1]],
        [[1], [0], [-1], [1], [1]],
    ],
    ids=str,
)
def test_rows_go_through_their_experts(quant_format: QuantFormat | None, experts: list[list[int]]) -> None:
    """Up and down again, with what they add to; w1 and w3 of an expert lie beside each other."""
    chosen = torch.tensor(experts)
    num_tokens, k = chosen.shape
    x, residual, weights = normal(num_tokens, 64), normal(num_tokens, 20, seed=5), normal(num_tokens, k, seed=6).abs()
    w1, w3, w2 = (
        [stored(normal(*shape, seed=10 * s + e) / 8, quant_format) for e in range(4)]
        for s, shape in enumerate([(32, 64), (32, 64), (20, 32)])
    )
    pairs = stacked([stacked(list(pair)) for pair in zip(w1, w3, strict=True)])
    gate_up = [pairs[:, half] if isinstance(pairs, Tensor) else part_of(pairs, half) for half in (0, 1)]
    h = triton_moe.expert_gate_up(x, chosen, *gate_up)
    zero = torch.zeros(20, dtype=torch.float64)
    expected = []
    for row, of_row, weights_of_row in zip(x.double(), experts, weights.double(), strict=True):
        ups = [silu(in_floats(w1[e]) @ row) * (in_floats(w3[e]) @ row) if e >= 0 else None for e in of_row]
        downs = [zero if up is None else in_floats(w2[e]) @ up for up, e in zip(ups, of_row, strict=True)]
        expected.append(sum((weight * down for weight, down in zip(weights_of_row, downs, strict=True)), zero))
        for choice, up in enumerate(ups):
            if up is not None:
                assert_close(h[len(expected) * k - k + choice], up)
    h[chosen.flatten() < 0] = float("nan")  # what is nobody's is not read
    assert_close(triton_moe.expert_down(h, chosen, weights, stacked(w2)), torch.stack(expected))
    found = triton_moe.expert_down(h, chosen, weights, stacked(w2), residual)
    assert_close(found, torch.stack(expected) + residual.double())


def part_of(pairs: QuantizedWeight, half: int) -> QuantizedWeight:
    return QuantizedWeight(pairs.data[:, half], pairs.scales[:, half])


@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_stays_with_the_tokens_that_chose_it() -> None:
    h, w2 = normal(2, 32), normal(3, 20, 32, seed=1)
    w2[2] = float("inf")
    found = triton_moe.expert_down(h, torch.tensor([[1], [2]]), torch.ones(2, 1), w2)
    assert_close(found[0], w2[1].double() @ h[0].double())
    assert not found[1].isfinite().any()


@pytest.mark.parametrize(
    ("num_tokens", "dim", "dtype"),
    [(1, 96, torch.bfloat16), (2, 1100, torch.float32), (5, 32, torch.float32), (3, 96, torch.float16)],
)
@pytest.mark.parametrize(("num_experts", "k"), [(4, 2), (7, 3), (64, 6), (1, 1)])
def test_tokens_are_sent_where_torch_sends_them(
    num_tokens: int, dim: int, num_experts: int, k: int, dtype: torch.dtype
) -> None:
    x, scale, gate = normal(num_tokens, dim), normal(dim, seed=1), normal(num_experts, dim, seed=2)
    x, scale, gate = (t.to(dtype) for t in (x, scale, gate))
    normed, weights, experts = triton_route.route(Normed(x, scale, 1e-5), gate, k, range(num_experts))
    assert_close(normed, rms_norm_by_torch(x, scale, 1e-5).double())
    logits = (normed.double() @ gate.double().T).to(dtype)
    expected, chosen = route(logits, k)
    torch.testing.assert_close(weights, expected, atol=TOLERANCES[dtype], rtol=0)
    assert_close(logits.gather(1, experts), logits.gather(1, chosen).double())
    assert all(len(set(of_token)) == k for of_token in experts.tolist())
    again, weights_again, held = triton_route.route(normed, gate, k, range(1, 3))
    assert again is normed
    assert torch.equal(weights_again, weights)
    expected_held = (experts - 1).where((experts == 1) | (experts == 2), -1)
    assert torch.equal(held, expected_held)
    is_token = torch.arange(num_tokens) % 2 == 1
    *_, held = triton_route.route(normed, gate, k, range(1, 3), is_token)
    assert torch.equal(held, expected_held.where(is_token[:, None], -1))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_sent_to_experts_that_there_are(number: float) -> None:
    x = torch.full((2, 32), number)
    _, weights, experts = triton_route.route(Normed(x, torch.ones(32), 1e-5), normal(5, 32), 2, range(5))
    assert ((experts >= 0) & (experts < 5)).all()
    assert weights.isnan().all()


@pytest.mark.parametrize("quant_format", [None, "int4"])
@pytest.mark.parametrize("num_tokens", [1, 6, 17, MAX_TOKENS_OF_EXPERTS])
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


def test_a_hook_sees_what_a_half_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that does which adds up what ranks computed: nothing may be added before it."""
    model = Transformer.from_folder(write_checkpoint(tmp_path, head_dim=16, n_layers=1, vocab_size=99))
    monkeypatch.setenv(SWITCH, "1")
    ids = torch.tensor([3, 4, 5])
    expected = model(ids, [3])
    for half in ("attention", "feed_forward"):
        model.get_submodule(f"layers.0.{half}").register_forward_hook(lambda module, args, output: output * 2 / 2)
    assert_close(model(ids, [3]), expected.double())
    for half in ("attention", "feed_forward"):
        model.get_submodule(f"layers.0.{half}").register_forward_hook(lambda module, args, output: output * 0)
    assert_close(model(ids, [3]), model.logits(model.norm(model.tok_embeddings(ids))).double())


@pytest.mark.parametrize(
    ("quant_format", "moe"),
    [
        (None, None),
        ("int4", MIXTURE),
        (None, "tied"),
        pytest.param(None, MIXTURE, marks=pytest.mark.long),
        *[pytest.param(quant_format, None, marks=pytest.mark.long) for quant_format in QUANT_FORMATS],
        *[pytest.param(quant_format, MIXTURE, marks=pytest.mark.long) for quant_format in ("int8", "fp8")],
    ],
    ids=lambda value: "mixture" if value == MIXTURE else str(value),
)
def test_a_model_gives_the_same_answers_on_these_kernels(
    quant_format: QuantFormat | None, moe: MoeArgs | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = {"tied": True} if moe == "tied" else {"moe": moe}
    folder = write_checkpoint(tmp_path, **kind, n_heads=2, n_kv_heads=1, head_dim=24, n_layers=1, vocab_size=99)
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
    monkeypatch.setattr(
        triton_linear, "linears", lambda x, *w: shapes.append(tuple(rows_of(x).shape)) or multiply(x, *w)
    )
    found = answers()
    most = MAX_ROWS if quant_format is None else MAX_ROWS_QUANTIZED
    assert {1, 2} <= {num_rows for num_rows, _ in shapes} <= set(range(1, most + 1))
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
        "_gate_up",
        "_expert_gate_up",
        "_expert_down",
        "_route",
    }
