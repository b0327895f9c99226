"""A LoRA file is merged as mistral_inference does it, or not at all."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import make_params, random_weights, write_checkpoint
from safetensors.torch import save_file
from test_weights_load import SlotModel, opened

from mistral_local.args import MoeArgs
from mistral_local.errors import AdapterError, OutOfMemoryError
from mistral_local.weights import load_weights, lora, merge_lora

Adapter = dict[str, torch.Tensor]
WQ = "layers.0.attention.wq"
EXPERT = "layers.1.feed_forward.experts.2.w1"
PARAMS = make_params(moe=MoeArgs(4, 2))


def loaded_model(folder: Path, dtype: torch.dtype = torch.float32) -> SlotModel:
    model = SlotModel(random_weights(PARAMS))
    with opened(write_checkpoint(folder / "base", moe=MoeArgs(4, 2))) as checkpoint:
        load_weights(model, checkpoint, device="cpu", dtype=dtype)
    return model


def make_adapter(*modules: str, rank: int = 3, dtype: torch.dtype = torch.float32) -> Adapter:
    """Random halves for these modules of the base."""
    generator = torch.Generator().manual_seed(1)
    weights = random_weights(PARAMS)
    adapter = {}
    for module in modules:
        out_features, in_features = weights[f"{module}.weight"].shape
        adapter[f"{module}.lora_A.weight"] = torch.randn(rank, in_features, generator=generator).to(dtype)
        adapter[f"{module}.lora_B.weight"] = torch.randn(out_features, rank, generator=generator).to(dtype)
    return adapter


def saved(adapter: Adapter, folder: Path) -> Path:
    save_file(adapter, folder / "lora.safetensors")
    return folder / "lora.safetensors"


def copies(model: SlotModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.tensors().items()}


@pytest.mark.parametrize("scaling", [2.0, 0.5, -1])
def test_every_linear_layer_of_the_blocks_can_be_adapted(tmp_path: Path, scaling: float) -> None:
    modules = [
        name.removesuffix(".weight")
        for name, tensor in random_weights(PARAMS).items()
        if tensor.dim() == 2 and name.startswith("layers.")
    ]
    assert {WQ, EXPERT, "layers.0.feed_forward.gate"} < set(modules)
    adapter = make_adapter(*modules)
    model = loaded_model(tmp_path)
    before = copies(model)
    merge_lora(model, saved(adapter, tmp_path), scaling=scaling)
    for name, tensor in model.tensors().items():
        module = name.removesuffix(".weight")
        expected = before[name]
        if module in modules:
            product = adapter[f"{module}.lora_B.weight"] @ adapter[f"{module}.lora_A.weight"]
            expected = expected + product * scaling
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-5)


def test_scaling_is_two_unless_told_and_other_weights_stay_as_they_are(tmp_path: Path) -> None:
    model = loaded_model(tmp_path)
    before = copies(model)
    adapter = make_adapter(WQ)
    merge_lora(model, saved(adapter, tmp_path))
    added = model.tensors()[f"{WQ}.weight"] - before[f"{WQ}.weight"]
    product = adapter[f"{WQ}.lora_B.weight"] @ adapter[f"{WQ}.lora_A.weight"]
    torch.testing.assert_close(added, 2 * product, rtol=1e-5, atol=1e-5)
    for name, tensor in model.tensors().items():
        assert name == f"{WQ}.weight" or torch.equal(tensor, before[name])


@pytest.mark.parametrize("adapter_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_sum_is_computed_in_fp32_and_rounded_once(tmp_path: Path, adapter_dtype: torch.dtype) -> None:
    model = loaded_model(tmp_path, torch.bfloat16)
    before = copies(model)
    adapter = make_adapter(WQ, EXPERT, dtype=adapter_dtype)
    merge_lora(model, saved(adapter, tmp_path))
    for module in (WQ, EXPERT):
        a, b = (adapter[f"{module}.lora_{half}.weight"].double() for half in "AB")
        exact = before[f"{module}.weight"].double() + 2 * b @ a
        merged = model.tensors()[f"{module}.weight"]
        assert merged.dtype == torch.bfloat16
        # Half a unit in the last of 8 bits, and what fp32 may differ before that rounding.
        torch.testing.assert_close(merged.double(), exact, rtol=2**-8 * 1.001, atol=1e-5)


def test_merging_never_writes_to_the_base_checkpoint(tmp_path: Path) -> None:
    model = loaded_model(tmp_path)
    file = tmp_path / "base" / "consolidated.safetensors"
    content = file.read_bytes()
    merge_lora(model, saved(make_adapter(WQ), tmp_path))
    assert file.read_bytes() == content


def nan(adapter: Adapter) -> None:
    adapter[f"{EXPERT}.lora_B.weight"][0, 0] = float("nan")


def integers(adapter: Adapter) -> None:
    adapter[f"{EXPERT}.lora_A.weight"] = adapter[f"{EXPERT}.lora_A.weight"].to(torch.int8)


def huge(adapter: Adapter) -> None:
    adapter[f"{EXPERT}.lora_A.weight"] *= 1e30
    adapter[f"{EXPERT}.lora_B.weight"] *= 1e30


def renamed(new: str) -> Callable[[Adapter], None]:
    def rename(adapter: Adapter) -> None:
        adapter[new] = adapter.pop(f"{EXPERT}.lora_A.weight")

    return rename


def replaced(half: str, shape: tuple[int, ...]) -> Callable[[Adapter], None]:
    def replace(adapter: Adapter) -> None:
        adapter[f"{EXPERT}.lora_{half}.weight"] = torch.ones(shape)

    return replace


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda a: a.pop(f"{EXPERT}.lora_B.weight"),
            f"tensor {EXPERT}.lora_B.weight is missing, its other half is there",
        ),
        (
            lambda a: a.pop(f"{EXPERT}.lora_A.weight"),
            f"tensor {EXPERT}.lora_A.weight is missing, its other half is there",
        ),
        (replaced("B", (64, 4)), f"tensor {EXPERT}.lora_B.weight: expected (64, 3), found (64, 4)"),
        (replaced("B", (63, 3)), f"tensor {EXPERT}.lora_B.weight: expected (64, 3), found (63, 3)"),
        (replaced("A", (3, 31)), f"tensor {EXPERT}.lora_A.weight: expected (3, 32), found (3, 31)"),
        (replaced("A", (0, 32)), f"tensor {EXPERT}.lora_A.weight: expected (1, 32), found (0, 32)"),
        (replaced("A", (3,)), f"tensor {EXPERT}.lora_A.weight: expected (3, 32), found (3,)"),
        (replaced("A", ()), f"tensor {EXPERT}.lora_A.weight: expected (1, 32), found ()"),
        (nan, f"tensor {EXPERT}.lora_B.weight: holds NaN or infinity"),
        (integers, f"tensor {EXPERT}.lora_A.weight: expected a float type, found I8"),
        (huge, f"{EXPERT}.weight: the sum could leave the range of float32"),
        (
            renamed("layers.9.attention.wq.lora_A.weight"),
            "tensor layers.9.attention.wq.lora_A.weight: nothing in this model that it could be added to",
        ),
        (
            renamed("base_model.model.layers.0.self_attn.q_proj.lora_A.weight"),
            "tensor base_model.model.layers.0.self_attn.q_proj.lora_A.weight: nothing in this model that it could be "
            "added to",
        ),
        (
            renamed("layers.0.attention.wq.weight"),
            "tensor layers.0.attention.wq.weight: nothing in this model that it ",
        ),
        (
            renamed("output.lora_A.weight"),
            "tensor output.lora_A.weight: output.weight cannot be adapted, only linear layers inside the blocks",
        ),
        (
            renamed("tok_embeddings.lora_A.weight"),
            "tensor tok_embeddings.lora_A.weight: tok_embeddings.weight cannot be adapted, only linear layers",
        ),
        (renamed("norm.lora_A.weight"), "tensor norm.lora_A.weight: norm.weight cannot be adapted, only linear layers"),
        (lambda a: a.clear(), "no tensors"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_no_weight_changes(
    tmp_path: Path, damage: Callable[[Adapter], None], message: str
) -> None:
    model = loaded_model(tmp_path)
    before = copies(model)
    adapter = make_adapter(WQ, EXPERT)
    damage(adapter)
    path = saved(adapter, tmp_path)
    with pytest.raises(AdapterError, match=re.escape(f"{path}: {message}")):
        merge_lora(model, path)
    for name, tensor in model.tensors().items():
        assert torch.equal(tensor, before[name]), name


def test_a_sum_that_fits_fp32_but_not_the_models_dtype_is_refused(tmp_path: Path) -> None:
    model = loaded_model(tmp_path, torch.float16)
    adapter = {name: tensor * 1000 for name, tensor in make_adapter(WQ).items()}
    with pytest.raises(AdapterError, match="the sum could leave the range of float16"):
        merge_lora(model, saved(adapter, tmp_path))


def test_damaged_and_absent_files_are_adapter_errors(tmp_path: Path) -> None:
    model = loaded_model(tmp_path)
    path = saved(make_adapter(WQ), tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AdapterError, match="is it truncated"):
        merge_lora(model, path)
    with pytest.raises(AdapterError, match="no such file"):
        merge_lora(model, tmp_path / "gone.safetensors")
    with pytest.raises(AdapterError, match="not a file"):
        merge_lora(model, tmp_path)


@pytest.mark.parametrize("scaling", [float("nan"), float("inf"), "2", True, None])
def test_scaling_must_be_a_finite_number(tmp_path: Path, scaling: float) -> None:
    with pytest.raises(AdapterError, match=r"^scaling: expected a finite number, got "):
        merge_lora(loaded_model(tmp_path), saved(make_adapter(WQ), tmp_path), scaling=scaling)


def test_a_model_without_weights_cannot_take_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="the model has no weights yet"):
        merge_lora(SlotModel(random_weights(PARAMS)), saved(make_adapter(WQ), tmp_path))


def test_no_memory_to_merge_leaves_the_weights_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded_model(tmp_path)
    before = copies(model)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lora, "_check_range", fail)
    with pytest.raises(OutOfMemoryError, match="no memory to merge it; the weights are as before"):
        merge_lora(model, saved(make_adapter(WQ), tmp_path))
    for name, tensor in model.tensors().items():
        assert torch.equal(tensor, before[name]), name
