"""Quantized weights: the bits mean what they say, every road multiplies by that, and files come back as they were."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from demo_kl import kl_from_the_demo
from safetensors.torch import load_file, save_file
from torch import Tensor

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.cli.entry import run_local
from mistral_local.config import QUANT_FORMATS, QuantFormat
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.errors import AdapterError, UnsupportedCheckpointError, UsageError, WeightsError
from mistral_local.generate import generate
from mistral_local.inspect.quantize import quantize_checkpoint
from mistral_local.kernels import native, packed_linear, quantized
from mistral_local.kernels.quantized import QuantizedWeight, dequantize, expand_scales, quantize, quantized_linears
from mistral_local.tasks.llm import load
from mistral_local.transformer import Transformer

BIG = {"dim": 64, "hidden_dim": 128, "n_heads": 4, "n_kv_heads": 2, "head_dim": 32, "vocab_size": 211}
WORST_ERROR = {"int8": 0.01, "fp8": 0.03, "int4": 0.13}
"""Relative root mean square error of normally distributed numbers."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
@pytest.mark.parametrize("columns", [32, 96, 384])
def test_a_matrix_comes_back_within_the_error_of_its_bits(quant_format: QuantFormat, columns: int) -> None:
    weight = normal(40, columns)
    weight[3] = 0
    weight[4] *= 1e-30
    again = dequantize(quantize(weight, quant_format), torch.float32)
    assert relative_error(again, weight) < WORST_ERROR[quant_format]
    assert not again[3].any()
    assert again.isfinite().all()


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_damaged_row_stays_one_that_is_not_finite(quant_format: QuantFormat, bad: float) -> None:
    weight = normal(3, 32)
    weight[1, 5] = bad
    quantized = quantize(weight, quant_format)
    assert dequantize(quantized, torch.float32).isfinite().all(1).tolist() == [True, False, True]
    for x in (torch.ones(1, 32).bfloat16(), torch.ones(70, 32)):
        assert quantized_linears(x, [quantized])[0][0].isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
def test_a_matrix_is_rounded_in_parts_to_the_same_bits(
    quant_format: QuantFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = normal(7, 256, seed=1).bfloat16()
    whole = quantize(weight, quant_format)
    monkeypatch.setattr(quantized, "ROUNDED_NUMBERS", 600)  # two rows at a time
    parts = quantize(weight, quant_format)
    assert torch.equal(parts.data.view(torch.uint8), whole.data.view(torch.uint8))
    assert torch.equal(parts.scales, whole.scales)


def test_int4_holds_two_numbers_per_byte_in_halves_of_sixteen() -> None:
    q = torch.arange(64) % 16  # 0 .. 15 stand for -8 .. 7
    data = (q.view(2, 2, 16)[:, 0] | q.view(2, 2, 16)[:, 1] << 4).reshape(1, 32).to(torch.uint8)
    weight = QuantizedWeight(data, torch.tensor([[0.5, 2.0]]))
    assert (weight.format, weight.in_features, weight.group) == ("int4", 64, 32)
    expected = (q.float() - 8) * torch.tensor([0.5] * 32 + [2.0] * 32)
    assert torch.equal(dequantize(weight, torch.float32)[0], expected)


def test_every_code_of_fp8_is_widened_exactly() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).view(1, -1)
    weight, expected = QuantizedWeight(codes, torch.ones(1, 1)), codes.float()
    assert expected.isnan().nonzero()[:, 1].tolist() == [0x7F, 0xFF]
    found = [dequantize(weight, torch.float32)]
    if (kernels := native.quantized_kernels()) is not None:
        found.append(kernels.widen_quantized(codes, weight.scales, 256).float())
    # Each code by itself, times one.
    alone = codes.view(-1, 1).view(torch.uint8) * torch.eye(1, 32, dtype=torch.uint8)
    one = torch.ones(1, 32, dtype=torch.bfloat16)
    alone = QuantizedWeight(alone.view(torch.float8_e4m3fn), torch.ones(256, 1))
    found.append(quantized_linears(one, [alone])[0].float())
    for values in found:
        torch.testing.assert_close(values, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 16, 64, 65])
@pytest.mark.parametrize("shape", [(1, 32), (7, 128), (50, 384)])
def test_compiled_products_are_those_of_the_matrix_that_the_bits_stand_for(
    quant_format: QuantFormat, num_rows: int, shape: tuple[int, int]
) -> None:
    weights = [quantize(normal(*shape, seed=seed), quant_format) for seed in (1, 2)]
    x = normal(num_rows, shape[1], seed=3).bfloat16()
    for y, weight in zip(quantized_linears(x, weights), weights, strict=True):
        expected = x.double() @ dequantize(weight, torch.float32).double().T
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.double(), expected, rtol=1e-2, atol=1e-2 * shape[1] ** 0.5)


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
def test_a_row_does_not_depend_on_the_rows_beside_it(quant_format: QuantFormat) -> None:
    weight = quantize(normal(33, 256), quant_format)
    x = normal(16, 256, seed=1).bfloat16()
    together = quantized_linears(x, [weight])[0]
    for row in range(16):
        assert torch.equal(quantized_linears(x[row : row + 1], [weight])[0][0], together[row])


@pytest.mark.parametrize("num_rows", [3, 70])
def test_without_compiled_kernels_torch_multiplies(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = quantize(normal(50, 128), "int4"), normal(num_rows, 128, seed=1).bfloat16()
    expected = quantized_linears(x, [weight])[0]
    monkeypatch.setattr(native, "quantized_kernels", lambda: None)
    torch.testing.assert_close(quantized_linears(x, [weight])[0], expected, rtol=2e-2, atol=0.2)


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
def test_long_prompts_are_multiplied_in_fp32_where_the_cpu_only_emulates_bf16(
    quant_format: QuantFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(size, 256, generator=generator).bfloat16() for size in (65, 48))
    quantized = quantize(weight, quant_format)
    monkeypatch.setattr(packed_linear, "is_emulated", lambda dtype: True)
    expected = packed_linear.wide_linear(x, dequantize(quantized, torch.bfloat16))
    assert torch.equal(quantized_linears(x, [quantized])[0], expected)


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        (torch.tensor(2.0), torch.full((5, 1), 2.0)),
        (torch.arange(5.0)[:, None], torch.arange(5.0)[:, None]),
        (torch.arange(10.0).view(5, 2), torch.arange(10.0).view(5, 2)),
    ],
    ids=["matrix", "rows", "groups"],
)
def test_scales_of_any_part_become_scales_of_rows_and_groups(scales: Tensor, expected: Tensor) -> None:
    assert torch.equal(expand_scales(scales.bfloat16(), (5, 256)), expected)


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
@pytest.mark.parametrize("moe", [None, MoeArgs(num_experts=4, num_experts_per_tok=2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantized_model_is_the_model_of_its_rounded_matrices(
    tmp_path: Path, quant_format: QuantFormat, moe: MoeArgs | None, dtype: torch.dtype
) -> None:
    folder = write_checkpoint(tmp_path, dtype=dtype, moe=moe, **BIG)
    model = Transformer.from_folder(folder, quantize=quant_format)
    assert model.quant_format == quant_format
    rounded = Transformer.from_folder(folder)
    assert rounded.quant_format is None
    assert model.num_parameters == rounded.num_parameters
    for name in rounded.quantizable():
        parameter = rounded.get_parameter(name)
        parameter.data = dequantize(quantize(parameter.data, quant_format), dtype)
    tokens = torch.arange(2, 40)
    tolerance = 1e-4 if dtype == torch.float32 else 0.25
    torch.testing.assert_close(model(tokens, [20, 18]), rounded(tokens, [20, 18]), atol=tolerance, rtol=0.02)
    if dtype == torch.float32:
        prompts = [[5, 6, 7], list(range(9, 40))]
        answers = [generate(prompts, m, max_tokens=8, temperature=0.0)[0] for m in (model, rounded)]
        assert answers[0] == answers[1]


def test_embeddings_output_norms_and_router_keep_their_numbers(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, moe=MoeArgs(num_experts=4, num_experts_per_tok=2), **BIG)
    model = Transformer.from_folder(folder, quantize="int8")
    floats = {name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32}
    assert {name for name in floats if not name.endswith("scales")} == {
        name
        for name, _ in Transformer.from_folder(folder).named_parameters()
        if "norm" in name or "gate" in name or not name.startswith("layers.")
    }


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
@pytest.mark.parametrize("moe", [None, MoeArgs(num_experts=4, num_experts_per_tok=2)])
def test_a_quantized_checkpoint_loads_as_the_model_that_is_rounded_at_load(
    tmp_path: Path, quant_format: QuantFormat, moe: MoeArgs | None
) -> None:
    folder = write_checkpoint(tmp_path / "from", dtype=torch.bfloat16, moe=moe, **BIG)
    (folder / "tekken.json").write_bytes((demo_checkpoint() / "tekken.json").read_bytes())
    report = quantize_checkpoint(folder, tmp_path / "to", quant_format)
    assert report.bytes_after < report.bytes_before
    assert 0 < report.mean_error <= report.worst_error < WORST_ERROR[quant_format] * 1.1
    assert {file.name for file in (tmp_path / "to").iterdir()} == {
        "params.json",
        "consolidated.safetensors",
        "tekken.json",
    }
    stored, rounded = Transformer.from_folder(tmp_path / "to"), Transformer.from_folder(folder, quantize=quant_format)
    expected = dict(rounded.named_parameters())
    found = dict(stored.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        assert torch.equal(parameter.view(torch.uint8), expected[name].view(torch.uint8)), name
    load_file(tmp_path / "to" / "consolidated.safetensors")  # safetensors' own reader agrees with the header


def test_scales_do_not_decide_the_dtype_of_the_rest(tmp_path: Path) -> None:
    """In a large int4 checkpoint they have more bytes than the embeddings."""
    folder = write_checkpoint(tmp_path / "from", dtype=torch.bfloat16, **BIG | {"vocab_size": 8})
    (folder / "tekken.json").write_bytes((demo_checkpoint() / "tekken.json").read_bytes())
    quantize_checkpoint(folder, tmp_path / "to", "int4")
    notes: list[str] = []
    assert Transformer.from_folder(tmp_path / "to", note=notes.append).dtype == torch.bfloat16
    assert not notes


def write_fp8(folder: Path, scale_shape: tuple[int, ...], **quantization: str) -> Path:
    """A checkpoint as Mistral publishes fp8: one scale per matrix, and one for activations."""
    write_checkpoint(folder, dtype=torch.bfloat16, **BIG)
    args = TransformerArgs.from_folder(folder)
    with torch.device("meta"):
        names = Transformer(args).quantizable()
    tensors = load_file(folder / "consolidated.safetensors")
    for name in names:
        scale = tensors[name].float().abs().max() / 448
        tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
        tensors[name.replace(".weight", ".qscale_weight")] = scale.reshape(scale_shape)
        tensors[name.replace(".weight", ".qscale_act")] = torch.tensor(1.0)
    save_file(tensors, folder / "consolidated.safetensors")
    params = json.loads((folder / "params.json").read_text())
    params["quantization"] = {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"} | quantization
    (folder / "params.json").write_text(json.dumps(params))
    return folder


def test_a_published_fp8_checkpoint_runs(tmp_path: Path) -> None:
    folder = write_fp8(tmp_path, ())
    model = Transformer.from_folder(folder)
    assert model.quant_format == "fp8"
    tensors = load_file(folder / "consolidated.safetensors")
    with torch.device("meta"):
        plain = Transformer(TransformerArgs.from_folder(folder))
    weights = {
        name: tensors[name].float() * tensors.get(name.replace(".weight", ".qscale_weight"), torch.tensor(1.0))
        for name, _ in plain.named_parameters()
    }
    plain.load_state_dict({name: weight.bfloat16() for name, weight in weights.items()}, assign=True)
    tokens = torch.arange(2, 40)
    assert relative_error(model(tokens, [38]), plain(tokens, [38])) < 0.02


@pytest.mark.parametrize(
    ("field", "value"),
    [("qformat_weight", "nvfp4"), ("qscheme_act", "BLOCK"), ("qscheme_weight", "ROW"), ("unheard_of", "1")],
)
def test_a_quantization_that_is_not_understood_is_refused_by_name(tmp_path: Path, field: str, value: str) -> None:
    write_fp8(tmp_path, (), **{field: value})
    with pytest.raises((UnsupportedCheckpointError, Exception), match=rf"quantization\.{field}"):
        Transformer.from_folder(tmp_path)


def test_a_scale_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    write_fp8(tmp_path, (1, 1))
    with pytest.raises(WeightsError, match=r"wrong shape layers\.0\.attention\.w\w\.qscale_weight"):
        Transformer.from_folder(tmp_path)


def test_what_is_quantized_is_not_quantized_again(tmp_path: Path) -> None:
    folder = write_fp8(tmp_path / "fp8", ())
    with pytest.raises(UsageError, match="quantized already"):
        Transformer.from_folder(folder, quantize="int8")
    with pytest.raises(UsageError, match="quantized already"):
        quantize_checkpoint(folder, tmp_path / "again", "int8")
    with pytest.raises(UsageError, match="quantized already"):
        Transformer.from_folder(folder).quantize("int8")


def test_a_model_without_rows_that_can_be_quantized_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "odd", **BIG | {"dim": 40, "hidden_dim": 72, "head_dim": 10})
    with pytest.raises(UsageError, match="no matrix can be quantized: none has rows of a multiple of 32"):
        Transformer.from_folder(folder, quantize="int8")
    with pytest.raises(UsageError, match="no matrix can be quantized"):
        Transformer.from_folder(folder).quantize("int8")
    with pytest.raises(UsageError, match="no matrix can be quantized"):
        quantize_checkpoint(folder, tmp_path / "to", "int8")


def test_a_damaged_checkpoint_is_not_written(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "from", **BIG)
    (folder / "tekken.json").write_bytes((demo_checkpoint() / "tekken.json").read_bytes())
    tensors = load_file(folder / "consolidated.safetensors")
    tensors["layers.1.attention.wk.weight"][2, 3] = torch.nan
    save_file(tensors, folder / "consolidated.safetensors")
    with pytest.raises(WeightsError, match=r"tensor layers\.1\.attention\.wk\.weight: holds NaN or infinity"):
        quantize_checkpoint(folder, tmp_path / "to", "int8")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
def test_a_stage_without_embeddings_and_output_computes_in_floats_and_packs_nothing(
    tmp_path: Path, quant_format: QuantFormat
) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, dtype=torch.bfloat16, **BIG), quantize=quant_format)
    model.tok_embeddings = model.output = torch.nn.Identity()
    assert model.dtype == torch.bfloat16
    assert not model.pack_weights()


def test_an_adapter_is_merged_before_rounding_and_refused_after(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, **BIG)
    adapter = tmp_path / "lora.safetensors"
    name = "layers.0.attention.wq"
    a, b = normal(2, 64) / 8, normal(128, 2, seed=1) / 8
    save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, adapter)
    model = Transformer.from_folder(folder, quantize="int8")
    with pytest.raises(AdapterError, match="merge the adapter first"):
        model.load_lora(adapter)
    merged = Transformer.from_folder(folder)
    merged.load_lora(adapter)
    expected = quantize(merged.get_parameter(f"{name}.weight"), "int8")
    merged.quantize("int8")
    assert torch.equal(merged.get_parameter(f"{name}.weight"), expected.data)


def test_the_command_writes_a_checkpoint_that_chats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "int8"
    assert run_local(["quantize", str(demo_checkpoint()), str(target), "int8"]) == 0
    assert "relative error" in capsys.readouterr().out
    assert run_local(["verify", str(target)]) == 0
    llm = load(target)
    assert llm.chat([{"role": "user", "content": "Hello!"}]).text
    assert run_local(["quantize", str(demo_checkpoint()), str(target), "int8"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_local(["quantize", str(demo_checkpoint()), str(tmp_path / "x"), "int3"]) == 2
    assert not (tmp_path / "x").exists()
    capsys.readouterr()
    assert run_local(["quantize"]) == 2
    assert "quantize needs a checkpoint" in capsys.readouterr().err


MOST_KL = {"int8": 0.001, "fp8": 0.008, "int4": 0.12}
"""Nats per token between the demo's next-token distributions before and after rounding."""


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
def test_the_demo_answers_nearly_as_before(quant_format: QuantFormat) -> None:
    assert (
        0 < kl_from_the_demo(Transformer.from_folder(demo_checkpoint(), quantize=quant_format)) < MOST_KL[quant_format]
    )


@pytest.mark.parametrize("quant_format", QUANT_FORMATS)
def test_changing_the_dtype_of_a_model_leaves_its_bits_and_scales(tmp_path: Path, quant_format: QuantFormat) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, **BIG), quantize=quant_format)
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if name in model.quantizable()}
    model.to(torch.bfloat16)
    assert (model.dtype, model.quant_format) == (torch.bfloat16, quant_format)
    for name, bits in before.items():
        parameter = model.get_parameter(name)
        assert parameter.dtype == bits.dtype
        assert torch.equal(parameter.view(torch.uint8), bits.view(torch.uint8))
        assert model.get_parameter(name.replace("weight", "scales")).dtype == torch.float32
    assert model(torch.arange(2, 9), [7]).isfinite().all()
