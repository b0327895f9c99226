"""Matrices under each other in memory are one product, and still what they were to everybody else."""

from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from safetensors.torch import save_file
from torch import Tensor, nn

from mistral_local.args import MoeArgs
from mistral_local.generate import generate
from mistral_local.model import base, linear
from mistral_local.model.joined import join, joined_view
from mistral_local.model.linear import Linear
from mistral_local.transformer import Transformer

PROMPTS = [[5, 9, 300, 4, 17], [7]]
MIXTURE = MoeArgs(num_experts=4, num_experts_per_tok=2)


def three() -> list[Linear]:
    return [Linear(8, out).requires_grad_(False) for out in (3, 1, 5)]


def numbers(layers: list[Linear]) -> list[Tensor]:
    return [layer.weight.clone() for layer in layers]


def test_joined_layers_are_views_of_one_tensor() -> None:
    layers = three()
    before = numbers(layers)
    whole = join(layers)
    assert torch.equal(whole, torch.cat(before))
    assert join(layers).data_ptr() == whole.data_ptr()
    whole[3] = 7
    assert (layers[1].weight == 7).all()
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers[::2], before[::2], strict=True))


def test_layers_joined_during_a_step_can_be_written_to_afterwards() -> None:
    layers = three()
    with torch.inference_mode():
        join(layers)
    versions = [layer.weight._version for layer in layers]
    layers[0].weight.mul_(2)
    assert layers[0].weight._version == versions[0] + 1


def test_only_what_lies_together_is_seen_as_joined() -> None:
    layers = three()
    assert joined_view([layer.weight for layer in layers]) is None
    whole = torch.zeros(9, 8)
    assert joined_view([whole[:4], whole[4:]]) is not None
    assert joined_view([whole[4:], whole[:4]]) is None
    assert joined_view([whole[:4], whole[5:]]) is None
    assert joined_view([whole[:4, :4], whole[4:, :4]]) is None
    join(layers)
    layers[1].double()
    assert joined_view([layer.weight for layer in layers]) is None


@pytest.mark.parametrize("moe", [None, MIXTURE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_joined_model_is_the_same_model(
    moe: MoeArgs | None, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path, moe=moe)
    apart, model = (Transformer.from_folder(folder, max_batch_size=2, dtype=dtype) for _ in range(2))
    model.join_matrices()
    addresses = {id(tensor): tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    monkeypatch.setattr(linear, "is_joined_on", lambda device: True)
    assert (
        generate(PROMPTS, model, max_tokens=9, temperature=0.0)[0]
        == (generate(PROMPTS, apart, max_tokens=9, temperature=0.0)[0])
    )
    assert {id(tensor): tensor.untyped_storage().data_ptr() for tensor in model.parameters()} == addresses
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in apart.state_dict().items())
    assert model.weight_slots() == apart.weight_slots()


def test_an_adapter_is_merged_into_joined_matrices(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    apart, model = (Transformer.from_folder(folder) for _ in range(2))
    model.join_matrices()
    generator = torch.Generator().manual_seed(0)
    adapter = {}
    for name in ("attention.wk", "feed_forward.w3"):
        rows, columns = apart.get_parameter(f"layers.0.{name}.weight").shape
        for half, shape in (("A", (2, columns)), ("B", (rows, 2))):
            adapter[f"layers.0.{name}.lora_{half}.weight"] = torch.randn(*shape, generator=generator)
    save_file(adapter, tmp_path / "lora.safetensors")
    for each in (apart, model):
        each.load_lora(tmp_path / "lora.safetensors")
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in apart.state_dict().items())
    block = model.layers[0]
    assert isinstance(block, nn.Module)
    attention = block.attention
    assert isinstance(attention, nn.Module)
    assert joined_view([attention.wq.weight, attention.wk.weight, attention.wv.weight]) is not None


@pytest.mark.parametrize("moe", [None, MIXTURE])
def test_a_joined_model_can_be_quantized(moe: MoeArgs | None, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, moe=moe)
    apart, model = (Transformer.from_folder(folder) for _ in range(2))
    model.join_matrices()
    for each in (apart, model):
        each.quantize("int8")
    model.join_matrices()
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in apart.state_dict().items())
    ids = torch.tensor([3, 4, 5])
    assert torch.equal(model(ids, [3]), apart(ids, [3]))


def test_a_mixture_that_is_quantized_has_its_experts_joined_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Transformer.from_folder(write_checkpoint(tmp_path, moe=MIXTURE))
    monkeypatch.setattr(base, "is_joined_on", lambda device: True)
    model.quantize("int8")
    w2 = [module for name, module in model.named_modules() if name.startswith("layers.0.") and name.endswith(".w2")]
    assert len(w2) == MIXTURE.num_experts
    for parameter in ("weight", "scales"):
        assert joined_view([layer.get_parameter(parameter) for layer in w2]) is not None
