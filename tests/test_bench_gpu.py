"""mistral-bench gpu: floors of the real shapes, and every line of the command on a CPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from mistral_local.args import TransformerArgs
from mistral_local.attention.select import reasons_against, select_backend
from mistral_local.bench import gpu as bench
from mistral_local.bench import stopwatch as stopwatch_module
from mistral_local.bench.ceilings import Ceilings
from mistral_local.bench.cells import Cell, parse_cells
from mistral_local.bench.floors import decode_floor_s, prefill_floor_s
from mistral_local.bench.random_model import random_model
from mistral_local.bench.shapes import SHAPES
from mistral_local.bench.step_profile import KernelTime, kernel_times
from mistral_local.bench.stopwatch import Stopwatch
from mistral_local.cli.argv import check_arguments
from mistral_local.cli.bench_gpu import gpu
from mistral_local.cli.command import flags_of
from mistral_local.config import QUANT_FORMATS, QuantFormat
from mistral_local.engine import kv_memory
from mistral_local.errors import MistralLocalError, OutOfMemoryError, UsageError

CEILINGS = Ceilings(read_bytes_per_s=4.3e12, flops=790e12)
SCRIPT = Path(__file__).parent.parent / "scripts" / "bench_gpu.sh"
CPU = torch.device("cpu")
INT4_ITEMSIZE = 4.25 / 8


@pytest.mark.parametrize(
    ("shape", "matrix_itemsize", "batch_size", "context", "tokens_per_s"),
    [
        ("7b", None, 1, 1024, 299),
        ("7b", None, 1, 8192, 281),
        ("7b", None, 8, 8192, 1508),
        ("7b", None, 64, 1024, 12_061),
        ("7b", 1, 1, 1024, 582),
        ("7b", 1, 64, 1024, 17_376),
        ("7b", INT4_ITEMSIZE, 1, 1024, 1046),
        ("7b", INT4_ITEMSIZE, 8, 8192, 2738),
        ("nemo", None, 8, 1024, 1404),
        ("nemo", INT4_ITEMSIZE, 1, 1024, 589),
        ("small24b", None, 1, 1024, 94),
        ("small24b", 1, 32, 1024, 4755),
        ("mixtral", None, 1, 1024, 168),
        ("mixtral", None, 8, 1024, 404),
        ("mixtral", None, 32, 8192, 1079),
        ("mixtral", 1, 1, 8192, 308),
        ("mixtral", INT4_ITEMSIZE, 8, 1024, 1457),
    ],
)
def test_decode_floors_of_the_real_shapes(
    shape: str, matrix_itemsize: float | None, batch_size: int, context: int, tokens_per_s: float
) -> None:
    """Computed elsewhere, from published shapes, for a GPU that moves 4.3 TB/s."""
    step_s = decode_floor_s(
        TransformerArgs.from_dict(dict(SHAPES[shape])),
        CEILINGS,
        batch_size=batch_size,
        context=context,
        itemsize=2,
        matrix_itemsize=matrix_itemsize,
    )
    assert batch_size / step_s == pytest.approx(tokens_per_s, rel=0.015)


@pytest.mark.parametrize(
    ("shape", "num_tokens", "ms"),
    [("7b", 2048, 38), ("7b", 8192, 167), ("nemo", 8192, 254), ("small24b", 2048, 117), ("mixtral", 8192, 284)],
)
def test_prefill_floors_of_the_real_shapes(shape: str, num_tokens: int, ms: float) -> None:
    args = TransformerArgs.from_dict(dict(SHAPES[shape]))
    assert 1000 * prefill_floor_s(args, CEILINGS, num_tokens=num_tokens, itemsize=2) == pytest.approx(ms, rel=0.02)


@pytest.mark.parametrize(("quant_format", "itemsize"), [("int8", 1), ("fp8", 1), ("int4", INT4_ITEMSIZE)])
def test_the_floor_of_a_quantized_model_counts_its_bits(quant_format: QuantFormat, itemsize: float) -> None:
    model = random_model("tiny", CPU, quantize=quant_format)
    scales_of_rows = 0.0 if quant_format == "int4" else 4 / 128
    assert model.matrix_itemsize == pytest.approx(itemsize + scales_of_rows, rel=0.02)


def test_cells_are_kinds_or_single_ones() -> None:
    assert parse_cells("start, prefill:4096,decode:8x1024") == [
        Cell("start"), Cell("prefill", context=4096), Cell("decode", 8, 1024),
    ]  # fmt: skip
    assert [cell.name for cell in parse_cells("prefill,decode")] == [
        "prefill:2048", "prefill:8192",
        "decode:1x1024", "decode:8x1024", "decode:32x1024", "decode:64x1024", "decode:1x8192", "decode:8x8192",
    ]  # fmt: skip


@pytest.mark.parametrize("quant_format", [None, *QUANT_FORMATS])
def test_random_weights_are_never_zeros_and_always_the_same(quant_format: QuantFormat | None) -> None:
    first, second = (random_model("tiny-moe", CPU, quantize=quant_format) for _ in range(2))
    assert first.dtype is torch.bfloat16
    assert first.quant_format == quant_format
    for parameter, again in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(parameter, again)
        assert parameter.float().std() > 0 or bool((parameter == 1).all())


def test_a_run_measures_every_cell_twice_and_says_under_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    gpu(
        shapes="tiny,tiny-moe",
        cells="start,decode:3x8,prefill:16",
        quantize="int4",
        new_tokens=6,
        repeats=2,
        profile=True,
        device="cpu",
        output=str(output),
    )
    report = json.loads(output.read_text())
    assert set(report["ceilings"]) == {"before", "after"}
    assert report["machine"]["hardware"]
    for shape in ("tiny", "tiny-moe"):
        of_shape = report["shapes"][shape]
        assert of_shape["conditions"]["quantized"] == "int4"
        assert of_shape["conditions"]["attention"] == select_backend(CPU, torch.bfloat16, 32).name
        assert set(of_shape["cells"]) == {"start", "decode:3x8", "prefill:16"}
        decode, prefill = of_shape["cells"]["decode:3x8"], of_shape["cells"]["prefill:16"]
        assert len(decode["runs"]) == len(prefill["runs"]) == 2
        assert decode["ms"] == pytest.approx(3000 / decode["tokens_per_s"])
        assert prefill["ms"] == pytest.approx(16_000 / prefill["tokens_per_s"])
        assert decode["share_of_floor"] > 0 < prefill["share_of_floor"]
        assert decode["profile"][0]["ms"] >= decode["profile"][-1]["ms"] > 0
        assert of_shape["cells"]["start"]["first_answer_s"] > 0
    shown = capsys.readouterr().out
    assert (tmp_path / "figures.md").read_text() == shown
    assert "## tiny-moe, int4 weights, bfloat16 on" in shown
    assert "| decode:3x8 |" in shown
    assert "Triton's kernels run on CUDA only, not on cpu" in shown
    assert "against graphs of decode steps: graphs of kernels are recorded on CUDA only" in shown
    assert "| rest" in shown


def test_without_a_gpu_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MistralLocalError, match="there is no CUDA device; --device cpu --shapes tiny"):
        gpu()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": "7b,70b"}, "--shapes: expected some of .*mixtral.*, got '70b'"),
        (
            {"cells": "decode:8"},
            "--cells: expected start, prefill, decode, prefill:2048 or decode:8x1024, got 'decode:8'",
        ),
        ({"cells": "decode:0x16"}, "--cells"),
        ({"new_tokens": 3}, "--new_tokens must be at least 4"),
        ({"repeats": 1}, "--repeats at least 2"),
        ({"time_limit": 0.0}, "--time_limit more than 0"),
        ({"output": "/nowhere/at/all.json"}, "--output: no folder"),
    ],
)
def test_flags_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gpu(**options)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mistral_local.cli.bench_gpu.find_launch", lambda: SimpleNamespace(world_size=2))
    with pytest.raises(UsageError, match="measures one GPU"):
        gpu()


@pytest.fixture
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring them takes seconds."""
    monkeypatch.setattr(bench, "measure_ceilings", lambda device, dtype: CEILINGS)


def run_tiny(tmp_path: Path, **options: Any) -> dict[str, Any]:
    output = tmp_path / "figures.json"
    common: dict[str, Any] = {"shapes": "tiny", "new_tokens": 4, "repeats": 2, "device": "cpu", "output": str(output)}
    gpu(**common | options)
    cells: dict[str, Any] = json.loads(output.read_text())["shapes"]["tiny"]["cells"]
    return cells


@pytest.mark.usefixtures("known_ceilings")
def test_cells_that_are_not_reached_in_time_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = run_tiny(tmp_path, cells="start,prefill", time_limit=1e-9)
    assert set(cells) == {"start", "prefill:2048", "prefill:8192"}
    assert {figures["missing"] for figures in cells.values()} == {"not reached within the time limit"}
    assert "| prefill:2048 | not reached within the time limit |" in capsys.readouterr().out


def test_a_cell_with_less_than_two_runs_in_time_has_no_figure() -> None:
    class TwoChecks(stopwatch_module.TimeLimit):
        num_left = 2

        def check(self) -> None:
            self.num_left -= 1
            if self.num_left < 0:
                raise stopwatch_module.NoTimeError

    stopwatch = Stopwatch(random_model("tiny", CPU), batch_size=1, prompt_tokens=4, new_tokens=2)
    with pytest.raises(stopwatch_module.NoTimeError):
        stopwatch.runs(3, TwoChecks())
    limit = TwoChecks()
    limit.num_left = 3
    assert len(stopwatch.runs(3, limit)) == 2


@pytest.mark.usefixtures("known_ceilings")
def test_weights_that_do_not_fit_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OutOfMemoryError("random tiny: the weights need 93.4 GB on cuda:0, 84.0 GB are free")

    monkeypatch.setattr(bench, "random_model", refuse)
    cells = run_tiny(tmp_path, cells="decode:1x8,prefill:8")
    assert {figures["missing"] for figures in cells.values()} == {
        "does not fit: random tiny: the weights need 93.4 GB on cuda:0, 84.0 GB are free"
    }


@pytest.mark.usefixtures("known_ceilings")
def test_a_cache_that_does_not_fit_is_said_and_the_next_cell_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_memory, "free_bytes", lambda device: 200_000)
    cells = run_tiny(tmp_path, cells="decode:4x64,prefill:8")
    assert cells["decode:4x64"]["missing"].startswith("does not fit: the KV cache needs 20 blocks of 16 tokens")
    assert cells["prefill:8"]["tokens_per_s"] > 0


@pytest.mark.usefixtures("known_ceilings")
def test_a_kernel_that_fails_takes_no_other_figure_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(bench, "decode_speed", fail)
    cells = run_tiny(tmp_path, cells="decode:1x8,prefill:8")
    assert cells["decode:1x8"]["missing"] == "fails: RuntimeError: CUDA error: an illegal memory access was encountered"
    assert cells["prefill:8"]["tokens_per_s"] > 0


@pytest.mark.usefixtures("known_ceilings")
def test_a_device_without_memory_for_a_step_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(bench, "measure_prefill", fail)
    assert run_tiny(tmp_path, cells="prefill:8")["prefill:8"]["missing"] == "does not fit: CUDA out of memory."


@pytest.mark.parametrize("max_prefill_tokens", [12, 20, 8192])
def test_prompts_that_take_several_steps_all_decode_together(
    max_prefill_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopwatch_module, "MAX_PREFILL_TOKENS", max_prefill_tokens)
    stopwatch = Stopwatch(random_model("tiny", CPU), batch_size=4, prompt_tokens=10, new_tokens=3)
    sequences = stopwatch.begin()
    numbers = [sequence.num_new_tokens for sequence in sequences]
    assert min(numbers) == 1
    assert not any(sequence.is_finished for sequence in sequences)
    for steps in (1, 2):
        stopwatch.engine.step()
        assert [sequence.num_new_tokens for sequence in sequences] == [number + steps for number in numbers]
    for sequence in sequences:
        stopwatch.engine.abort(sequence)
    assert all(seconds > 0 for seconds in stopwatch.run())
    assert not stopwatch.engine.has_work


def test_the_profile_of_a_gpu_counts_kernels_only() -> None:
    def event(key: str, kind: DeviceType, us: float, *, is_user_annotation: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            key=key, device_type=kind, count=8, self_device_time_total=us, is_user_annotation=is_user_annotation
        )

    averages = [
        event("aten::mm", DeviceType.CPU, 800.0),
        event("short", DeviceType.CUDA, 400.0),
        event("long", DeviceType.CUDA, 1600.0),
        event("ProfilerStep#1", DeviceType.CUDA, 9999.0, is_user_annotation=True),
    ]
    assert kernel_times(averages, torch.device("cuda"), 4) == [
        KernelTime("long", 2.0, 0.4),
        KernelTime("short", 2.0, 0.1),
    ]


def test_the_driver_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho '570.86.15, 700.00 W, 1980 MHz'\n")
    command.chmod(0o755)
    assert bench.driver() == "570.86.15, 700.00 W, 1980 MHz"
    command.write_text("#!/bin/sh\nexit 9\n")
    assert bench.driver() is None


def test_the_backend_that_is_named_is_the_first_without_a_reason_against_it() -> None:
    reasons = reasons_against(CPU, torch.bfloat16, 64)
    able = [name for name, why in reasons.items() if not why]
    assert select_backend(CPU, torch.bfloat16, 64).name == (able[0] if able else "sdpa")


def test_the_script_for_a_gpu_runs_commands_that_there_are(tmp_path: Path) -> None:
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(f'#!/bin/sh\nshift 2\necho "${{MISTRAL_LOCAL_TRITON:--}} $*" >> {log}\n')
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "RESULTS": str(tmp_path)}
    environment.pop("MISTRAL_LOCAL_TRITON", None)
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tests, *commands = [line.split() for line in log.read_text().splitlines()]
    assert tests == ["-", "-m", "gpu"]
    names = []
    for triton, command, *arguments in commands:
        assert command == "gpu"
        given = check_arguments(arguments, flags_of(gpu), {})
        parse_cells(given.get("cells", "decode"))
        assert given["shapes"] in SHAPES
        assert given.get("quantize") in (None, *QUANT_FORMATS)
        name = Path(given["output"]).stem
        assert triton == ("0" if name in ("gpu-7b", "gpu-mixtral") else "1")
        names.append(name)
    assert names[:3] == ["gpu-7b", "gpu-7b-triton", "gpu-mixtral-triton"]
    assert len(set(names)) == len(names)


def test_a_step_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": "false", "RESULTS": str(tmp_path)}
    done = subprocess.run([SCRIPT, "nemo", "8b", "7b"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["== nemo", "== 8b", "== 7b"]
    assert done.stderr.splitlines()[-1] == "bench_gpu.sh: failed: nemo 8b 7b"


def test_shellcheck_is_content() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "it comes with the dev extra"
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
