"""Products that round both sides to fp8: torch's own on the CPU stands for that of a GPU."""

import pytest
import torch
from demo_kl import kl_from_the_demo
from torch import Tensor

from mistral_local.demo.locate import demo_checkpoint
from mistral_local.kernels import quantized
from mistral_local.kernels.quantized import dequantize, quantize, quantized_linears
from mistral_local.kernels.scaled_product import SWITCH, reasons_against_scaled_product, scaled_product
from mistral_local.kernels.triton import MAX_ROWS_QUANTIZED
from mistral_local.transformer import Transformer

MOST_KL = 0.016
"""Nats per token between the demo's next-token distributions before weights and activations are rounded, and after."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def on_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows are multiplied as on a GPU that multiplies fp8."""
    monkeypatch.setattr(quantized, "MAX_ROWS_PACKED", 16)
    monkeypatch.setattr(quantized, "reasons_against_scaled_product", lambda x, w, w_scales: [])


def test_the_product_is_that_of_what_the_bits_stand_for() -> None:
    x = quantize(normal(33, 64) * torch.logspace(-3, 3, 33)[:, None], "fp8")
    w = quantize(normal(48, 64, seed=1) * torch.logspace(-2, 2, 48)[:, None], "fp8")
    expected = dequantize(x, torch.float32) @ dequantize(w, torch.float32).T
    found = scaled_product(x.data, x.scales, w.data, w.scales)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=float(expected.abs().mean()) * 1e-3)


def test_rows_that_several_matrices_share_are_rounded_once(on_this_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [quantize(normal(32, 64, seed=seed), "fp8") for seed in (1, 2)]
    x = normal(20, 64).bfloat16()
    calls: list[Tensor] = []
    rounding = quantize

    def counted(rows: Tensor, quant_format: str) -> object:
        calls.append(rows)
        return rounding(rows, "fp8")

    monkeypatch.setattr(quantized, "quantize", counted)
    for y, weight in zip(quantized_linears(x, weights), weights, strict=True):
        expected = dequantize(rounding(x, "fp8"), torch.float32) @ dequantize(weight, torch.float32).T
        torch.testing.assert_close(y.float(), expected, rtol=2**-7, atol=1e-2)
    assert len(calls) == 1


def test_it_says_why_it_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = normal(MAX_ROWS_QUANTIZED + 1, 64).bfloat16(), quantize(normal(48, 64), "fp8")
    monkeypatch.delenv(SWITCH, raising=False)
    assert reasons_against_scaled_product(x, w.data, w.scales) == [f"{SWITCH}=1 is not set"]
    monkeypatch.setenv(SWITCH, "1")
    device = "GPUs multiply fp8, not cpu"
    assert reasons_against_scaled_product(x, w.data, w.scales) == [device]
    few = f"{MAX_ROWS_QUANTIZED} rows are few"
    odd = quantize(normal(40, 96), "fp8")
    cases = [
        (x[:MAX_ROWS_QUANTIZED], w.data, w.scales, few),
        (x.half(), w.data, w.scales, "it multiplies bfloat16 by fp8, not torch.float16 by torch.float8_e4m3fn"),
        (x, w.data, w.scales.expand(48, 2), "every row of the matrix needs one scale"),
        (x, odd.data, odd.scales, "rows and columns must be multiples of 16, not 40 and 96"),
    ]
    for rows, data, scales, reason in cases:
        assert reasons_against_scaled_product(rows, data, scales) == [device, reason]


def test_the_demo_answers_less_nearly_as_before(on_this_cpu: None) -> None:
    """Why it is not chosen unasked: rounding activations moves the distributions more than rounding weights did."""
    assert 0 < kl_from_the_demo(Transformer.from_folder(demo_checkpoint(), quantize="fp8")) < MOST_KL
