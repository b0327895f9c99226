"""Weights go into a model once, from every layout of files."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import DEFAULTS, make_params, random_weights, write_checkpoint
from safetensors.torch import save_file
from torch import nn

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.errors import UsageError, WeightsError
from mistral_local.weights import Checkpoint, Slot, load_weights, open_checkpoint

MOE = MoeArgs(num_experts=4, num_experts_per_tok=2)


class SlotModel(nn.Module):
    """Parameters with the names and shapes of a checkpoint, on the meta device."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.slots = {name: Slot(name, tuple(tensor.shape)) for name, tensor in weights.items()}
        for name, tensor in weights.items():
            parameter = nn.Parameter(torch.empty(tensor.shape, device="meta"))
            setattr(_owner(self, name), name.rpartition(".")[2], parameter)

    def weight_slots(self) -> dict[str, Slot]:
        return self.slots

    def tensors(self) -> dict[str, torch.Tensor]:
        """By checkpoint name."""
        parameters = dict(self.named_parameters())
        return {name: parameters[slot.parameter] for name, slot in self.slots.items()}


def _owner(module: nn.Module, name: str) -> nn.Module:
    for part in name.split(".")[:-1]:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module._modules[part] or module
    return module


def opened(folder: Path) -> Checkpoint:
    return open_checkpoint(folder, TransformerArgs.from_folder(folder))


def assert_equal(model: SlotModel, weights: dict[str, torch.Tensor]) -> None:
    found = model.tensors()
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("files", [{}, {"shards": 3}, {"shards": 3, "index": False}, {"pth": True}], ids=str)
@pytest.mark.parametrize("moe", [None, MOE], ids=["dense", "moe"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_every_layout_fills_every_slot(
    tmp_path: Path, files: dict[str, object], moe: MoeArgs | None, tied: bool
) -> None:
    write_checkpoint(tmp_path, moe=moe, tied=tied, **files)
    weights = random_weights(make_params(moe=moe, tied=tied))
    model = SlotModel(weights)
    with opened(tmp_path) as checkpoint:
        assert checkpoint.notes == []
        assert checkpoint.nbytes == sum(tensor.nbytes for tensor in weights.values())
        load_weights(model, checkpoint, device="cpu")
    assert_equal(model, weights)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_dtype_none_keeps_what_is_stored_and_another_is_converted(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, dtype=torch.bfloat16, moe=MOE)
    weights = random_weights(make_params(moe=MOE), dtype=torch.bfloat16)
    for dtype in (None, torch.float32, torch.float16):
        model = SlotModel(weights)
        load_weights(model, opened(tmp_path), device="cpu", dtype=dtype)
        assert_equal(model, {name: tensor.to(dtype or torch.bfloat16) for name, tensor in weights.items()})


def test_mixed_dtypes_become_the_one_of_most_bytes_and_are_noted(tmp_path: Path) -> None:
    weights = random_weights(DEFAULTS, dtype=torch.bfloat16)
    mixed = {name: tensor.float() if "norm" in name else tensor for name, tensor in weights.items()}
    write_checkpoint(tmp_path)
    save_file(mixed, tmp_path / "consolidated.safetensors")
    model = SlotModel(weights)
    with opened(tmp_path) as checkpoint:
        assert checkpoint.stored_dtype == torch.bfloat16
        assert checkpoint.notes == [
            "tensors are stored as BF16 and F32; all are loaded in the one that most bytes are stored in"
        ]
        load_weights(model, checkpoint, device="cpu")
    assert_equal(model, weights)


def test_only_float_types_can_be_asked_for(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    with pytest.raises(UsageError, match=r"^dtype: expected float32, bfloat16, float16 or float64, got int8$"):
        load_weights(SlotModel(random_weights(DEFAULTS)), opened(tmp_path), device="cpu", dtype=torch.int8)


def test_writing_to_a_loaded_parameter_never_reaches_the_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    before = (tmp_path / "consolidated.safetensors").read_bytes()
    model = SlotModel(random_weights(DEFAULTS))
    load_weights(model, opened(tmp_path), device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert (tmp_path / "consolidated.safetensors").read_bytes() == before


def test_a_read_only_file_is_enough(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "consolidated.safetensors").chmod(0o400)
    model = SlotModel(random_weights(DEFAULTS))
    load_weights(model, opened(tmp_path), device="cpu")
    assert_equal(model, random_weights(DEFAULTS))


@pytest.mark.parametrize("padding", range(4))
def test_tensors_that_the_header_leaves_unaligned_are_read_right(tmp_path: Path, padding: int) -> None:
    write_checkpoint(tmp_path)
    file = tmp_path / "consolidated.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length] + b" " * padding
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    model = SlotModel(random_weights(DEFAULTS))
    load_weights(model, opened(tmp_path), device="cpu")
    assert_equal(model, random_weights(DEFAULTS))
    assert all(parameter.data_ptr() % 4 == 0 for parameter in model.parameters())


def test_progress_counts_tensors_and_bytes_to_the_end(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, moe=MOE)
    weights = random_weights(make_params(moe=MOE))
    calls: list[tuple[int, int, int]] = []
    load_weights(SlotModel(weights), opened(tmp_path), device="cpu", progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == list(range(1, len(weights) + 1))
    assert calls[-1] == (len(weights), len(weights), sum(tensor.nbytes for tensor in weights.values()))
    assert sorted(calls, key=lambda call: call[2]) == calls


def test_rope_freqs_of_old_checkpoints_are_ignored(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    weights = random_weights(DEFAULTS)
    save_file(weights | {"rope.freqs": torch.ones(4)}, tmp_path / "consolidated.safetensors")
    model = SlotModel(weights)
    load_weights(model, opened(tmp_path), device="cpu")
    assert_equal(model, weights)


def test_tied_checkpoint_may_store_an_equal_copy_as_output_but_no_other(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tied=True)
    weights = random_weights(make_params(tied=True))
    copy = weights | {"output.weight": weights["tok_embeddings.weight"].clone()}
    save_file(copy, tmp_path / "consolidated.safetensors")
    model = SlotModel(weights)
    load_weights(model, opened(tmp_path), device="cpu")
    assert_equal(model, weights)

    save_file(copy | {"output.weight": copy["output.weight"] + 1}, tmp_path / "consolidated.safetensors")
    with pytest.raises(WeightsError, match=r"output\.weight is stored and differs from tok_embeddings\.weight, though"):
        load_weights(SlotModel(weights), opened(tmp_path), device="cpu")


def test_the_choice_between_several_layouts_is_noted(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, pth=True, seed=1)
    write_checkpoint(tmp_path, shards=2, seed=2)
    weights = random_weights(DEFAULTS, seed=2)
    with opened(tmp_path) as checkpoint:
        assert checkpoint.notes == [
            "consolidated-00001-of-00002.safetensors is read; consolidated.00.pth in the same folder is not"
        ]
        assert torch.equal(checkpoint.read("norm.weight"), weights["norm.weight"])
    write_checkpoint(tmp_path, seed=3)
    with opened(tmp_path) as checkpoint:
        assert [note.split(" in ")[0] for note in checkpoint.notes] == [
            "consolidated.safetensors is read; consolidated-00001-of-00002.safetensors",
            "consolidated.safetensors is read; consolidated.00.pth",
        ]


def test_nothing_is_assigned_when_reading_fails_half_way(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    model = SlotModel(random_weights(DEFAULTS))

    def stop(done: int, total: int, nbytes: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_weights(model, opened(tmp_path), device="cpu", progress=stop)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_shards_may_have_any_index_order(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=3)
    index = tmp_path / "consolidated.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = dict(reversed(content["weight_map"].items()))
    index.write_text(json.dumps(content))
    model = SlotModel(random_weights(DEFAULTS))
    load_weights(model, opened(tmp_path), device="cpu")
    assert_equal(model, random_weights(DEFAULTS))


def test_one_shard_of_one_is_a_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "consolidated.safetensors").rename(tmp_path / "consolidated-00001-of-00001.safetensors")
    with opened(tmp_path) as checkpoint:
        assert checkpoint.tensors.keys() == random_weights(DEFAULTS).keys()
