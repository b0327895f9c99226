"""Checkpoints in the layout of transformers give the weights, and the logits, of the native ones."""

from pathlib import Path

import pytest
import torch
from checkpoints import make_params, random_weights, write_checkpoint, write_hf_checkpoint

import one_file_ref
from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.errors import WeightsError
from mistral_local.weights import open_checkpoint

MOE = MoeArgs(num_experts=4, num_experts_per_tok=2)
IDS = torch.arange(3, 43)[None]


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    with open_checkpoint(folder, TransformerArgs.from_folder(folder)) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"tied": True},
        {"moe": MOE},
        {"moe": MOE, "stacked_experts": True},
        {"shards": 3},
        {"shards": 3, "index": False},
    ],
    ids=str,
)
def test_every_hugging_face_layout_has_the_native_weights(tmp_path: Path, kind: dict[str, object]) -> None:
    write_hf_checkpoint(tmp_path, **kind)
    params = make_params(moe=kind.get("moe"), tied=bool(kind.get("tied")))
    assert_same(read_all(tmp_path), random_weights(params))


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"sliding_window": 5},
        {"tied": True, "head_dim": 16},
        {"moe": MOE, "n_kv_heads": 4},
    ],
    ids=str,
)
def test_transformers_computes_the_logits_of_the_native_checkpoint_and_saves_it_back(
    tmp_path: Path, kind: dict[str, object]
) -> None:
    transformers = pytest.importorskip("transformers")
    native = write_checkpoint(tmp_path / "native", **kind)
    ours = write_hf_checkpoint(tmp_path / "ours", **kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(ours, attn_implementation="eager")
    with torch.inference_mode():
        expected = one_file_ref.Transformer.from_folder(native)(IDS)
        torch.testing.assert_close(theirs(IDS).logits, expected, rtol=1e-4, atol=1e-4)

    theirs.save_pretrained(tmp_path / "saved", max_shard_size="50KB")
    assert len(list((tmp_path / "saved").glob("model-*-of-*.safetensors"))) > 1
    weights = random_weights(make_params(**kind))
    assert_same(read_all(tmp_path / "saved"), weights)


def test_two_names_for_one_tensor_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_hf_checkpoint(tmp_path, moe=MOE)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.mlp.gate.weight"] = weights["model.layers.0.block_sparse_moe.gate.weight"].clone()
    save_file(weights, file)
    with pytest.raises(WeightsError, match=r"gate\.weight and .* are both layers\.0\.feed_forward\.gate\.weight$"):
        read_all(tmp_path)


def test_query_heads_that_do_not_fit_are_refused_before_they_are_reordered(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_hf_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(load_file(file) | {"model.layers.1.self_attn.q_proj.weight": torch.zeros(30, 32)}, file)
    message = r"^tensor model\.layers\.1\.self_attn\.q_proj\.weight: expected \(32, 32\), found \(30, 32\) in .*$"
    with pytest.raises(WeightsError, match=message):
        read_all(tmp_path)
