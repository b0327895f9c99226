"""The memory plan: exact for weights and keys and values, from params.json or headers."""

import json

import pytest
import torch
from checkpoints import make_params, write_checkpoint

from mistral_local.args import MoeArgs, TransformerArgs
from mistral_local.cli.entry import run_local
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.inspect.plan import MemoryPlan, Question, stored_dtype
from mistral_local.inspect.quantize import quantize_checkpoint
from mistral_local.model.transformer import Transformer

MIXTRAL = {
    "dim": 4096, "n_layers": 32, "head_dim": 128, "hidden_dim": 14336, "n_heads": 32, "n_kv_heads": 8,
    "norm_eps": 1e-5, "vocab_size": 32000, "rope_theta": 1e6, "moe": {"num_experts": 8, "num_experts_per_tok": 2},
}  # fmt: skip


def plan_of(params, *, gpu_bytes=80 * 10**9, context=8192, batch=1):
    return MemoryPlan(TransformerArgs.from_dict(dict(params)), Question(gpu_bytes, context, batch), torch.bfloat16)


def test_mixtral_is_as_large_as_published():
    plan = plan_of(MIXTRAL)
    assert plan.num_parameters == 46_702_792_704
    alone = plan.need(1, 1)
    assert alone.weights == 2 * plan.num_parameters
    assert alone.kv_per_sequence == 8192 * 128 * 1024  # 128 KiB per token


def test_the_fewest_gpus_are_found():
    plan = plan_of(MIXTRAL)
    assert not plan.fits(plan.need(1, 1))
    smallest = plan.smallest(None, 8)
    assert (smallest.num_gpus, smallest.name) == (2, "TP 2")
    assert plan.smallest(8.0, 8).num_gpus == 1
    assert plan_of(MIXTRAL, gpu_bytes=10**9).smallest(None, 8) is None


@pytest.mark.parametrize(("num_gpus", "num_stages"), [(2, 1), (2, 2), (4, 2), (4, 4)])
@pytest.mark.parametrize("moe", [None, MoeArgs(num_experts=4, num_experts_per_tok=2)], ids=["dense", "moe"])
def test_ranks_hold_together_what_one_holds(num_gpus, num_stages, moe):
    plan = plan_of(make_params(n_layers=10, moe=moe))
    alone, shared = plan.need(1, 1), plan.need(num_gpus, num_stages)
    assert alone.weights / num_gpus <= shared.weights <= 1.4 * alone.weights / num_gpus
    layers, heads = -(-10 // num_stages), max(1, 2 // (num_gpus // num_stages))
    assert shared.kv_per_sequence * 10 * 2 == alone.kv_per_sequence * layers * heads


def test_a_window_bounds_the_cache():
    whole, sliding = plan_of(make_params(), context=32768), plan_of(make_params(sliding_window=512), context=32768)
    assert sliding.need(1, 1).kv_per_sequence * 32768 == whole.need(1, 1).kv_per_sequence * (512 + 2048)


def test_the_dtype_comes_from_the_headers(tmp_path):
    write_checkpoint(tmp_path, dtype=torch.float16)
    args = TransformerArgs.from_folder(tmp_path)
    assert stored_dtype(tmp_path, args) == (torch.float16, "as stored")
    model = Transformer.from_folder(tmp_path)
    plan = MemoryPlan(args, Question(10**9, 100, 1), torch.float16)
    assert plan.need(1, 1).weights == sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("quant_format", ["int8", "int4", "fp8"])
def test_quantized_files_are_planned_as_they_are(tmp_path, capsys, quant_format):
    folder = write_checkpoint(tmp_path / "from", dtype=torch.bfloat16, dim=256, hidden_dim=512, head_dim=32)
    (folder / "tekken.json").write_bytes((demo_checkpoint() / "tekken.json").read_bytes())
    quantize_checkpoint(folder, tmp_path / "to", quant_format)
    model = Transformer.from_folder(tmp_path / "to")
    plan = MemoryPlan(TransformerArgs.from_folder(tmp_path / "to"), Question(10**9, 100, 1), torch.bfloat16)
    assert plan.num_parameters == model.num_parameters
    assert plan.need(1, 1).weights == pytest.approx(sum(p.nbytes for p in model.parameters()), rel=0.02)
    assert run_local(["plan", str(tmp_path / "to"), "--gpus", "2"]) == 0
    shown = capsys.readouterr().out
    assert f"parameters, {quant_format} weights, bfloat16 (as stored)" in shown
    assert "2 GPUs cannot share this model: files of quantized weights cannot be divided" in shown
    assert f"{quant_format} weights: 1 GPU, " in shown


def test_the_command_needs_params_json_only(tmp_path, capsys):
    (tmp_path / "params.json").write_text(json.dumps(MIXTRAL))
    assert run_local(["plan", str(tmp_path), "--gpus", "2", "--context", "8192"]) == 0
    shown = capsys.readouterr().out
    assert "46.70B parameters, bfloat16 (no weights in the folder yet; published ones are bfloat16)" in shown
    row = next(line for line in shown.splitlines() if "TP 2" in line and "GB" in line)
    assert row.split()[:5] == ["2", "TP", "2", "46.7", "GB"]
    assert "bfloat16 weights: 2 GPUs (TP 2)" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gpus", "0"], "--gpus: expected at least 1, got 0"),
        (["--batch", "-1"], "--batch: expected at least 1"),
        (["--gpu_memory", "much"], "expected a size such as 4GB"),
        (["--dtype", "int3"], "dtype: expected float32"),
        (["--gpus", "65"], "--gpus: expected at most 64"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags, message, capsys):
    assert run_local(["plan", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_number_of_gpus_that_cannot_share_the_model_is_explained(tmp_path, capsys):
    (tmp_path / "params.json").write_text(json.dumps(MIXTRAL | {"n_layers": 1}))
    assert run_local(["plan", str(tmp_path), "--gpus", "3"]) == 0
    assert "3 GPUs cannot share this model: 32 heads do not divide by 3" in capsys.readouterr().out
