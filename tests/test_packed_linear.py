"""Packed weights: the same products, and never those of a weight that has changed since."""

from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from torch.nn.functional import linear

from mistral_local.args import MoeArgs
from mistral_local.generate import generate
from mistral_local.kernels import packed_linear
from mistral_local.kernels.native import MAX_ROWS
from mistral_local.kernels.packed_linear import LinearProduct, reasons_against_packing
from mistral_local.model.linear import Linear
from mistral_local.transformer import Transformer

needs_packing = pytest.mark.skipif(
    bool(reasons_against_packing(torch.empty(1, dtype=torch.bfloat16))), reason="oneDNN has no bfloat16 on this CPU"
)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(3, 64, generator=GENERATOR).bfloat16()


def make_weight() -> torch.Tensor:
    return torch.randn(48, 64, generator=GENERATOR).bfloat16()


def packed_product(weight: torch.Tensor) -> LinearProduct:
    product = LinearProduct()
    product.pack(weight)
    return product


def test_fp32_weights_are_not_packed() -> None:
    assert reasons_against_packing(torch.empty(2, 2)) == ["packing serves bfloat16 on a CPU, not torch.float32 on cpu"]


@needs_packing
@pytest.mark.parametrize("num_rows", [1, 2, 8, 33])
def test_a_packed_weight_gives_the_same_product(num_rows: int) -> None:
    weight = make_weight()
    x = torch.randn(num_rows, 64, generator=GENERATOR).bfloat16()
    with torch.inference_mode():
        error = (packed_product(weight)(x, weight).float() - linear(x, weight).float()).abs().max()
    assert error < 0.1


@needs_packing
def test_a_write_in_place_is_noticed() -> None:
    weight = make_weight()
    product = packed_product(weight)
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(product(X, weight), linear(X, weight))


@needs_packing
def test_another_weight_is_noticed() -> None:
    product, other = packed_product(make_weight()), make_weight()
    assert torch.equal(product(X, other), linear(X, other))


@needs_packing
@pytest.mark.parametrize("kind", [{}, {"tied": True}, {"moe": MoeArgs(num_experts=4, num_experts_per_tok=2)}])
def test_a_long_answer_packs_the_weights_and_stays_self_consistent(kind: dict[str, bool], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, dtype=torch.bfloat16, **kind)  # type: ignore[arg-type]
    model = Transformer.from_folder(folder, max_batch_size=MAX_ROWS + 1)
    prompts = [[1, 2, 3 + row] for row in range(MAX_ROWS + 1)]
    tokens, decoded = generate(prompts, model, max_tokens=20, temperature=0.0)
    products = [module.product for module in model.modules() if isinstance(module, Linear)]
    assert all(product._packed is not None for product in products)
    plain = Transformer.from_folder(folder)
    _, prefilled = generate([[*prompts[0], *tokens[0]]], plain, max_tokens=0, temperature=0.0)
    assert torch.allclose(torch.tensor(decoded[0]), torch.tensor(prefilled[0]), atol=0.1)


@needs_packing
def test_batches_that_compiled_kernels_serve_are_not_packed(tmp_path: Path) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, dtype=torch.bfloat16))
    if not model.has_compiled_kernels(1):
        pytest.skip("no compiled kernels")
    generate([[1, 2, 3]], model, max_tokens=20, temperature=0.0)
    assert all(module.product._packed is None for module in model.modules() if isinstance(module, Linear))


@needs_packing
def test_an_adapter_that_is_merged_after_packing_counts(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = write_checkpoint(tmp_path, dtype=torch.bfloat16)
    model = Transformer.from_folder(folder)
    tokens = torch.arange(1, MAX_ROWS + 2)  # more than compiled kernels serve
    assert model.pack_weights()
    before = model.forward(tokens, [len(tokens)])
    name = "layers.0.attention.wq"
    out_features, in_features = model.get_parameter(f"{name}.weight").shape
    lora = {
        f"{name}.lora_A.weight": torch.randn(2, in_features, generator=GENERATOR),
        f"{name}.lora_B.weight": torch.randn(out_features, 2, generator=GENERATOR),
    }
    save_file({key: value.bfloat16() for key, value in lora.items()}, tmp_path / "lora.safetensors")
    model.load_lora(tmp_path / "lora.safetensors")
    fresh = Transformer.from_folder(folder)
    fresh.load_lora(tmp_path / "lora.safetensors")
    assert (model.forward(tokens, [len(tokens)]) - before).abs().max() > 0.1
    assert torch.equal(model.forward(tokens, [len(tokens)]), fresh.forward(tokens, [len(tokens)]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_weight_that_is_widened_gives_the_same_product(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linear, "WIDE_NUMBERS", 640)  # ten rows at a time
    x, weight = (torch.randn(size, 64, generator=GENERATOR).to(dtype) for size in (33, 48))
    expected = linear(x.float(), weight.float()).to(dtype)
    assert torch.allclose(packed_linear.wide_linear(x, weight), expected, rtol=1e-2, atol=1e-2)
    monkeypatch.setattr(packed_linear, "is_emulated", lambda dtype: True)
    out = torch.empty(33, 48, dtype=dtype)
    assert LinearProduct()(x, weight, out) is out
    assert torch.equal(out, packed_linear.wide_linear(x, weight))


def test_fp32_is_never_emulated() -> None:
    assert not packed_linear.is_emulated(torch.float32)
