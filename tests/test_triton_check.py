"""The check that decides whether Triton's kernels serve a GPU: all of it, in Triton's interpreter, and what is made of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mistral_local.kernels import triton
from mistral_local.kernels.triton import MAX_ROWS, SWITCH, is_check_due, proof, reasons_against_triton

CUDA = torch.device("cuda", 0)
in_the_interpreter = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="a GPU runs the kernels themselves: test_gpu.py"
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """What is known of a GPU, without one."""
    properties = SimpleNamespace(name="Some GPU", major=9, minor=0)
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(triton, "_can_import", lambda: True)
    monkeypatch.setattr(triton, "_capability", lambda device: (properties.major, properties.minor))
    monkeypatch.setattr(proof.os, "cpu_count", lambda: 2)
    proof.reasons_against_trust.cache_clear()
    yield properties
    proof.reasons_against_trust.cache_clear()


def answer(monkeypatch: pytest.MonkeyPatch, result: subprocess.CompletedProcess[str] | Exception) -> list[list[str]]:
    """Let the check end so; returns the commands that are run."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(proof.subprocess, "run", run)
    return commands


def ended(code: int, out: str = "", err: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, out, err)


@in_the_interpreter
def test_every_kernel_is_looked_at_and_right() -> None:
    pytest.importorskip("triton")
    from mistral_local.kernels.triton.check import cases, first_wrong
    from mistral_local.kernels.triton.check_case import Size

    small = Size(dim=64, hidden=32, heads=2, kv_heads=1, head_dim=16, context=32, rows=(1, 3, 17))
    with torch.inference_mode():
        found = list(cases(torch.device("cpu"), torch.float32, small))
    assert first_wrong(iter(found)) is None
    names = " ".join(case.name for case in found)
    for part in (
        "norm of a sum",
        "gated product, int4",
        "sum of experts, fp8",
        "tall product, block-scaled fp8",
        "fp8 cache",
        "window 8",
        "60 queries",
    ):
        assert part in names
    assert all(case.expected.norm() > 0 for case in found if "padding" not in case.name)


@in_the_interpreter
def test_rounding_to_half_precision_is_not_taken_for_an_error() -> None:
    """In fp16: the interpreter does not round to bf16 as GPUs do."""
    pytest.importorskip("triton")
    from mistral_local.kernels.triton.check import cases, first_wrong
    from mistral_local.kernels.triton.check_case import Size

    size = Size(dim=256, hidden=64, heads=2, kv_heads=1, head_dim=16, context=32, rows=(1, 16))
    with torch.inference_mode():
        assert first_wrong(cases(torch.device("cpu"), torch.float16, size)) is None


@in_the_interpreter
@pytest.mark.parametrize("wrong", [1.1, float("nan")])
def test_a_kernel_that_errs_is_named(wrong: float) -> None:
    pytest.importorskip("triton")
    from mistral_local.kernels.triton.check import first_wrong
    from mistral_local.kernels.triton.check_case import Case

    good = Case("norm", torch.ones(4), torch.ones(4))
    bad = Case("gate", torch.tensor([1.0, 1.0, 1.0, wrong]), torch.ones(4))
    assert str(first_wrong(iter([good, bad]))).startswith("gate: off by ")


def test_what_was_right_once_serves_and_is_not_checked_again(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = answer(monkeypatch, ended(0))
    assert is_check_due(CUDA)
    assert reasons_against_triton(CUDA) == []
    assert not is_check_due(CUDA)
    proof.reasons_against_trust.cache_clear()  # as another process
    assert reasons_against_triton(CUDA) == []
    assert sorted(command[1:] for command in commands) == [
        ["-m", "mistral_local.kernels.triton.check", "cuda:0", part] for part in ("0/2", "1/2")
    ]
    proof.reasons_against_trust.cache_clear()
    gpu.name = "Another GPU"
    assert is_check_due(CUDA)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (ended(1, "gate: off by 0.3 of the result\n"), "gate: off by 0.3 of the result"),
        (ended(1, "", "Traceback\nRuntimeError: illegal memory access\n"), "RuntimeError: illegal memory access"),
        (ended(-11), "exit code -11"),
        (subprocess.TimeoutExpired("check", 300), f"no end after {proof.TIMEOUT_S} s"),
        (OSError("cannot fork"), "cannot fork"),
    ],
)
def test_what_is_wrong_does_not_serve_and_is_checked_again_after_a_while(
    result: Any, reason: str, gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = answer(monkeypatch, result)
    for _ in range(2):
        assert reasons_against_triton(CUDA) == [f"Triton's kernels failed their check on this GPU: {reason}"]
    proof.reasons_against_trust.cache_clear()  # as another process, a rank of the same start
    assert reasons_against_triton(CUDA) == [f"Triton's kernels failed their check on this GPU: {reason}"]
    assert len(commands) == 2
    proof.reasons_against_trust.cache_clear()
    assert is_check_due(CUDA)
    answer(monkeypatch, ended(0))
    monkeypatch.setattr(proof, "FAILURE_HOLDS_S", 0)
    assert reasons_against_triton(CUDA) == []


def test_one_part_that_fails_is_enough(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return ended(1, "gate: off by 0.3 of the result") if command[-1] == "1/2" else ended(0)

    monkeypatch.setattr(proof.subprocess, "run", run)
    assert "gate: off by 0.3" in reasons_against_triton(CUDA)[0]


def test_old_gpus_are_not_checked(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.major, gpu.minor = 7, 5
    assert not is_check_due(CUDA)
    assert reasons_against_triton(CUDA) == ["Triton's kernels need compute capability 8.0"]


@in_the_interpreter
def test_the_parts_of_the_check_are_the_whole() -> None:
    pytest.importorskip("triton")
    from mistral_local.kernels.triton.check import USUAL, groups

    # Nothing is computed of a group that is not looked at.
    whole = groups(torch.device("cpu"), torch.float32, USUAL)
    many = [rows for rows in USUAL.rows if rows > MAX_ROWS]  # of which plain matrices take none
    assert len(whole) == 2 + 6 + 2 * 4 * len(USUAL.rows) - len(many)


@in_the_interpreter
def test_a_check_by_hand_is_remembered(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from mistral_local.kernels.triton import check
    from mistral_local.kernels.triton.check_case import Case

    case = Case("norm", torch.ones(4), torch.ones(4))
    monkeypatch.setattr(check, "groups", lambda device, dtype: [iter([case])])
    monkeypatch.setattr(check, "current", lambda device: nullcontext())
    assert check.main("cuda:0", "0/2") == 0
    assert is_check_due(CUDA)
    assert check.main("cuda:0") == 0
    assert not is_check_due(CUDA)


def test_a_file_system_without_locks_is_no_obstacle(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("Function not implemented")

    monkeypatch.setattr(proof.fcntl, "flock", refuse)
    monkeypatch.setattr(Path, "touch", refuse)
    answer(monkeypatch, ended(0))
    assert reasons_against_triton(CUDA) == []
    assert is_check_due(CUDA)


def test_the_switch_trusts_or_turns_off_without_a_check(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = answer(monkeypatch, ended(1))
    monkeypatch.setenv(SWITCH, "1")
    assert reasons_against_triton(CUDA) == []
    monkeypatch.setenv(SWITCH, "0")
    assert reasons_against_triton(CUDA) == [f"{SWITCH}=0 is set"]
    assert not is_check_due(CUDA)
    assert not commands


def test_the_check_itself_is_a_program() -> None:
    """Without a GPU it fails, and says why in its last line."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: test_gpu.py")
    failure = proof._check(CUDA)
    assert failure is not None
    assert "nvidia" in failure.lower() or "cuda" in failure.lower()
