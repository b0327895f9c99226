"""fp8 checkpoints with a `quantization_config`: they are the model of the numbers that their bits and scales stand for."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import hf_config, hf_weights, make_params, random_weights
from safetensors.torch import save_file
from torch import Tensor

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.attention.select import select_backend
from mistral_local.errors import ParamsError, UnsupportedCheckpointError, UsageError, WeightsError
from mistral_local.generate import generate
from mistral_local.inspect.plan import MemoryPlan, Question
from mistral_local.kernels.quantized import QuantizedWeight, dequantize, expand_scales, quantized_linears
from mistral_local.kernels.triton import SWITCH
from mistral_local.transformer import Transformer
from mistral_local.weights.load import fp8_matrices_with_nan

MOE = MoeArgs(num_experts=4, num_experts_per_tok=2)
ODD = {"dim": 160, "hidden_dim": 192, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64, "vocab_size": 211}
EVEN = ODD | {"dim": 256, "hidden_dim": 384}
BLOCK = 128


def compressed_tensors(strategy: str) -> dict[str, Any]:
    """`quantization_config` as compressed-tensors 0.20.0 writes it for its presets FP8, FP8_DYNAMIC and FP8_BLOCK."""
    scales_of_activations: dict[str, Any] = {"strategy": "tensor", "dynamic": False, "observer": "static_minmax"}
    weights: dict[str, Any] = {"strategy": strategy}
    if strategy != "tensor":
        scales_of_activations = {"strategy": "token", "dynamic": True}
    if strategy == "block":
        weights["block_structure"] = [BLOCK, BLOCK]
        scales_of_activations = {"strategy": "group", "group_size": BLOCK, "dynamic": True}
    fp8 = {"num_bits": 8, "type": "float", "symmetric": True, "group_size": None}
    group = {
        "targets": ["Linear"],
        "weights": fp8 | {"dynamic": False} | weights,
        "input_activations": fp8 | scales_of_activations,
        "output_activations": None,
        "format": None,
    }
    return {
        "config_groups": {f"FP8_{strategy}": group},
        "quant_method": "compressed-tensors",
        "kv_cache_scheme": None,
        "format": "float-quantized",
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "ignore": ["lm_head", "model.embed_tokens", "re:.*gate$"],
        "moe_sparsity_config": None,
    }


FINE_GRAINED = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "weight_block_size": [BLOCK, BLOCK],
    "modules_to_not_convert": ["lm_head"],
}


def round_to_fp8(weight: Tensor, strategy: str) -> tuple[Tensor, Tensor, Tensor]:
    """Bits, scales as published, and the numbers that they stand for."""
    rows, columns = weight.shape
    height, width = {"tensor": (rows, columns), "channel": (1, columns), "block": (BLOCK, BLOCK)}[strategy]
    scales = torch.empty(-(-rows // height), -(-columns // width))
    bits, numbers = torch.empty(rows, columns, dtype=torch.float8_e4m3fn), torch.empty(rows, columns)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            part = slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width)
            scales[i, j] = weight[part].abs().max() / 448
            bits[part] = (weight[part] / scales[i, j]).to(torch.float8_e4m3fn)
            numbers[part] = bits[part].float() * scales[i, j]
    return bits, scales.flatten() if strategy == "tensor" else scales, numbers


def write_fp8(
    folder: Path,
    *,
    strategy: str = "block",
    config: dict[str, Any] | None = None,
    scale_name: str = "weight_scale",
    hugging_face: bool = False,
    kept: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float32,
    moe: MoeArgs | None = None,
    **params: Any,
) -> tuple[Path, dict[str, Tensor]]:
    """An fp8 checkpoint, and the native weights that it stands for.

    Args:
        dtype: of what is not rounded.
        kept: parts of the names of matrices that stay in floats, beside embeddings, output and router.
    """
    content = make_params(moe=moe, **(ODD | params))
    numbers = random_weights(content)
    rounded = {
        name
        for name, weight in numbers.items()
        if weight.ndim == 2 and name.startswith("layers.") and not any(part in name for part in (".gate.", *kept))
    }
    # Rows are reordered before they are rounded, as whoever quantizes such a folder finds them.
    stored = {
        name: tensor.to(dtype) for name, tensor in (hf_weights(numbers, content) if hugging_face else numbers).items()
    }
    for name, hf_name in zip(numbers, list(stored), strict=True):
        if name in rounded:
            bits, scales, _ = round_to_fp8(stored[hf_name].float(), strategy)
            stored[hf_name] = bits
            stored[hf_name.replace(".weight", f".{scale_name}")] = scales
            if strategy == "tensor":
                stored[hf_name.replace(".weight", ".input_scale")] = torch.ones(1)
            numbers[name] = round_to_fp8(numbers[name], strategy)[2]
    folder.mkdir(parents=True)
    save_file(stored, folder / ("model.safetensors" if hugging_face else "consolidated.safetensors"))
    content = hf_config(content) if hugging_face else content
    content["quantization_config"] = compressed_tensors(strategy) if config is None else config
    (folder / ("config.json" if hugging_face else "params.json")).write_text(json.dumps(content))
    return folder, numbers


def write_floats(folder: Path, numbers: dict[str, Tensor], *, moe: MoeArgs | None = None, **params: Any) -> Path:
    folder.mkdir()
    save_file(numbers, folder / "consolidated.safetensors")
    (folder / "params.json").write_text(json.dumps(make_params(moe=moe, **(ODD | params))))
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"moe": MOE},
        {"strategy": "channel"},
        {"strategy": "tensor"},
        {"kept": (".wo.", ".w2.")},
        {"hugging_face": True},
        {"hugging_face": True, "moe": MOE},
        {"hugging_face": True, "strategy": "channel"},
        {"hugging_face": True, "config": FINE_GRAINED, "scale_name": "weight_scale_inv"},
    ],
    ids=str,
)
def test_an_fp8_checkpoint_is_the_model_of_the_numbers_it_stands_for(tmp_path: Path, kind: dict[str, Any]) -> None:
    folder, numbers = write_fp8(tmp_path / "fp8", **kind)
    expected_folder = write_floats(tmp_path / "floats", numbers, moe=kind.get("moe"))
    tokens, lengths = torch.arange(2, 42), [23, 17]
    model, plain = (Transformer.from_folder(f, dtype=torch.float32) for f in (folder, expected_folder))
    assert (model.quant_format, plain.quant_format) == ("fp8", None)
    assert model.num_parameters == plain.num_parameters
    torch.testing.assert_close(model(tokens, lengths), plain(tokens, lengths), atol=2e-4, rtol=1e-4)
    prompts = [[5, 6, 7], list(range(9, 40))]
    answers = [generate(prompts, m, max_tokens=8, temperature=0.0)[0] for m in (model, plain)]
    assert answers[0] == answers[1]
    model, plain = (Transformer.from_folder(f, dtype=torch.bfloat16) for f in (folder, expected_folder))
    few, many = torch.arange(2, 12), torch.arange(2, 90)
    for ids in (few, many):  # compiled kernels multiply by the bits, or unpack the matrix
        found, expected = model(ids, [len(ids)]), plain(ids, [len(ids)])
        assert float((found - expected).norm() / expected.norm()) < 0.02


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1" or find_spec("triton") is None, reason="no interpreter")
@pytest.mark.parametrize("moe", [None, MOE])
def test_triton_reads_scales_of_blocks(moe: MoeArgs | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 160 and 192 numbers have groups of 32 and 64."""
    folder, _ = write_fp8(tmp_path / "fp8", moe=moe, n_layers=1)
    model = Transformer.from_folder(folder, dtype=torch.float32)
    assert {int(matrix.in_features / matrix.scales.shape[1]) for matrix in matrices_of(model)} == {32, 64, 128}
    logits = []
    for switch, num_tokens in (("0", 9), ("1", 9), ("1", 1), ("0", 1)):
        monkeypatch.setenv(SWITCH, switch)
        select_backend.cache_clear()
        logits.append(model(torch.arange(2, 2 + num_tokens), [num_tokens]))
    select_backend.cache_clear()
    torch.testing.assert_close(logits[1], logits[0], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(logits[2], logits[3], atol=2e-4, rtol=1e-4)


def matrices_of(model: Transformer) -> list[Any]:
    return [model.get_submodule(name.removesuffix(".weight")) for name in model.quantizable()]


@pytest.mark.parametrize("shape", [(128, 128), (256, 128), (7, 32), (130, 160), (192, 192), (300, 416), (129, 512)])
def test_scales_of_blocks_become_scales_of_rows_and_equal_groups(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    bits, scales, numbers = round_to_fp8(weight, "block")
    quantized = QuantizedWeight(bits, expand_scales(scales, shape))
    assert torch.equal(dequantize(quantized, torch.float32), numbers)
    for num_rows in (1, 5, 70):
        x = torch.randn(num_rows, shape[1], generator=torch.Generator().manual_seed(1)).bfloat16()
        expected = x.double() @ numbers.double().T
        y = quantized_linears(x, [quantized])[0]
        torch.testing.assert_close(y.double(), expected, rtol=1e-2, atol=1e-2 * shape[1] ** 0.5)


@pytest.mark.parametrize(
    ("library", "config", "scale_name"),
    [("compressed_tensors", None, "weight_scale"), ("accelerate", FINE_GRAINED, "weight_scale_inv")],
)
def test_transformers_computes_the_same(
    tmp_path: Path, library: str, config: dict[str, Any] | None, scale_name: str
) -> None:
    pytest.importorskip(library, reason=f"transformers reads this format with {library}")
    transformers = pytest.importorskip("transformers")
    if config is None:
        config = compressed_tensors("block")
        config["config_groups"]["FP8_block"]["input_activations"] = None  # they would be rounded there
    layout = {"hugging_face": True, "config": config, "scale_name": scale_name, "dtype": torch.bfloat16}
    folder, _ = write_fp8(tmp_path / "fp8", **layout, **EVEN)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    ours = Transformer.from_folder(folder, dtype=torch.bfloat16)
    tokens = torch.arange(2, 42)
    with torch.no_grad():
        expected = theirs(tokens[None]).logits[0].float()
    assert float((ours(tokens, [40]) - expected).norm() / expected.norm()) < 0.05


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("quant_method",), "modelopt", r"quantization_config\.quant_method"),
        (("format",), "nvfp4-pack-quantized", r"quantization_config\.format: only .* found \"nvfp4-pack-quantized\""),
        (("kv_cache_scheme",), {"num_bits": 8}, r"quantization_config\.kv_cache_scheme"),
        (("transform_config",), {"R1": {}}, r"quantization_config\.transform_config"),
        (("unheard_of",), 1, r"quantization_config\.unheard_of"),
        (("config_groups",), {}, r"quantization_config\.config_groups"),
        (("config_groups",), [], r"quantization_config\.config_groups"),
        (("config_groups", "FP8_block", "format"), "pack-quantized", r"FP8_block\.format"),
        (("config_groups", "FP8_block", "weights"), None, r"FP8_block\.weights: expected an object"),
        (("config_groups", "FP8_block", "weights", "num_bits"), 4, r"weights\.num_bits: only 8"),
        (("config_groups", "FP8_block", "weights", "num_bits"), None, r"weights\.num_bits: only 8"),
        (("config_groups", "FP8_block", "weights", "type"), "int", r"weights\.type"),
        (("config_groups", "FP8_block", "weights", "strategy"), "group", r"weights\.strategy"),
        (("config_groups", "FP8_block", "weights", "symmetric"), False, r"weights\.symmetric"),
        (("config_groups", "FP8_block", "weights", "dynamic"), True, r"weights\.dynamic"),
        (
            ("config_groups", "FP8_block", "weights", "block_structure"),
            [64, 128],
            r"block_structure: only \[128, 128\]",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(path: tuple[str, ...], value: object, named: str) -> None:
    params = make_params(**ODD) | {"quantization_config": compressed_tensors("block")}
    assert TransformerArgs.from_dict(params).quantization is not None
    section: Any = params["quantization_config"]
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    with pytest.raises((ParamsError, UnsupportedCheckpointError), match=named) as refused:
        TransformerArgs.from_dict(params)
    assert "\n" not in str(refused.value)


def test_two_sections_about_rounding_are_one_too_many() -> None:
    params = make_params(**ODD) | {"quantization_config": compressed_tensors("block")}
    params["quantization"] = {"qformat_weight": "fp8_e4m3"}
    with pytest.raises(ParamsError, match="expected either it or quantization, found both"):
        TransformerArgs.from_dict(params)


def test_heads_that_blocks_divide_are_refused_where_rows_are_reordered(tmp_path: Path) -> None:
    wide = {"n_heads": 2, "n_kv_heads": 1, "head_dim": 96}
    folder, _ = write_fp8(tmp_path / "hf", hugging_face=True, **wide)
    with pytest.raises(UnsupportedCheckpointError, match="scales of 128 rows divide heads of 96"):
        Transformer.from_folder(folder)
    Transformer.from_folder(write_fp8(tmp_path / "native", **wide)[0])


def test_a_matrix_whose_scales_are_missing_or_of_another_shape_is_named(tmp_path: Path) -> None:
    folder, _ = write_fp8(tmp_path / "fp8")
    file = folder / "consolidated.safetensors"
    whole = _read(file)
    scales = "layers.1.attention.wo.weight_scale"
    save_file({name: tensor for name, tensor in whole.items() if name != scales}, file)
    with pytest.raises(WeightsError, match=r"cannot be loaded layers\.1\.attention\.wo\.weight \(F8_E4M3\)"):
        Transformer.from_folder(folder)
    save_file(whole | {scales: whole[scales][:, :1].contiguous()}, file)
    with pytest.raises(WeightsError, match=r"layers\.1\.attention\.wo\.qscale_weight \(expected \(2, 2\), found"):
        Transformer.from_folder(folder)


def test_fp8_matrices_that_hold_nan_are_found() -> None:
    codes = torch.arange(254, dtype=torch.uint8)
    codes[127] = 0
    good = codes.view(1, -1).view(torch.float8_e4m3fn)
    bad = torch.full((3, 32), 0xFF, dtype=torch.uint8).view(torch.float8_e4m3fn)
    parameters = {"a.weight": good, "b.weight": bad, "b.scales": torch.full((3, 1), torch.nan), "c.weight": bad[:1]}
    assert fp8_matrices_with_nan(parameters) == ["b.weight", "c.weight"]
    assert fp8_matrices_with_nan({"a.weight": good}) == []
    assert fp8_matrices_with_nan({}) == []


@pytest.mark.parametrize(
    ("moe", "kept"), [(None, ".attention.wk."), (None, ".feed_forward.w3."), (MOE, ".experts.2.w2."), (MOE, ".1.w1.")]
)
def test_matrices_that_are_multiplied_together_must_be_alike(tmp_path: Path, moe: MoeArgs | None, kept: str) -> None:
    folder, _ = write_fp8(tmp_path / "fp8", kept=(kept,), moe=moe)
    with pytest.raises(UnsupportedCheckpointError, match=rf"{kept}weight has no scales, .* must be alike"):
        Transformer.from_folder(folder)


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(file.read_bytes())


def test_it_is_not_quantized_again_and_its_memory_is_counted(tmp_path: Path) -> None:
    folder, numbers = write_fp8(tmp_path / "fp8", **EVEN)
    with pytest.raises(UsageError, match="quantized already"):
        Transformer.from_folder(folder, quantize="int8")
    model = Transformer.from_folder(folder)
    held = sum(parameter.nbytes for parameter in model.parameters())
    question = Question(gpu_bytes=10**9, context=64, batch=1)
    plan = MemoryPlan(TransformerArgs.from_folder(folder), question, model.dtype)
    assert plan.need(1, 1).weights == pytest.approx(held, rel=0.001)
    assert plan.num_parameters == sum(tensor.numel() for tensor in numbers.values())
