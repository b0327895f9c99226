"""One command for a GPU: random weights of real shapes, and each figure beside its floor."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from mistral_local.attention.select import reasons_against
from mistral_local.bench.ceilings import Ceilings, measure_ceilings, now
from mistral_local.bench.cells import Cell
from mistral_local.bench.conditions import conditions_of, hardware_name
from mistral_local.bench.measure import Speed, decode_speed, measure_prefill
from mistral_local.bench.random_model import random_model
from mistral_local.bench.step_profile import profile_step
from mistral_local.bench.stopwatch import NoTimeError, Stopwatch, TimeLimit
from mistral_local.config import EngineConfig, KVDtype, QuantFormat
from mistral_local.engine.follower import memory_of
from mistral_local.engine.step_graphs import reasons_against_step_graphs
from mistral_local.errors import OutOfMemoryError
from mistral_local.kernels.triton import reasons_against_triton
from mistral_local.kvcache.storage import storage_dtype
from mistral_local.memory import is_out_of_memory
from mistral_local.model.transformer import Transformer

ANSWER_TOKENS = 8
"""Of the answers that the start cell waits for: what is compiled or captured once is, by then."""

NO_TIME = "not reached within the time limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuBench:
    """What is measured, and how.

    Attributes:
        quantize: what the matrices inside the blocks are rounded to; None leaves them in bf16.
        kv_dtype: what keys and values are stored in.
        new_tokens: of each sequence of a decode cell, at least 4.
        repeats: runs of each cell, at least 2, after one that does not count.
        limit: nothing is begun after it.
        with_profile: whether decode cells say where the time of a step goes.
        save: is given the report whenever a cell is done, so that a run that is cut leaves what it has.
        note: hears what is being measured.
    """

    device: torch.device
    cells: list[Cell]
    quantize: QuantFormat | None
    kv_dtype: KVDtype
    new_tokens: int
    repeats: int
    limit: TimeLimit
    with_profile: bool
    save: Callable[[dict[str, Any]], None]
    note: Callable[[str], None]

    def run(self, shapes: list[str]) -> dict[str, Any]:
        """Measure all cells of all shapes, one model after the other; the result is plain data.

        What does not fit into memory, fails or is not reached in time says so in place of figures.
        """
        reasons_against_triton(self.device)  # may check the kernels first, which is part of no figure
        self.note("the machine")
        ceilings = measure_ceilings(self.device, torch.bfloat16)
        report: dict[str, Any] = {
            "machine": machine_of(self.device),
            "quantized": self.quantize,
            "kv_dtype": self.kv_dtype,
            "new_tokens": self.new_tokens,
            "ceilings": {"before": asdict(ceilings)},
            "shapes": {},
        }
        for shape in shapes:
            of_shape: dict[str, Any] = {"cells": {}}
            report["shapes"][shape] = of_shape
            self._measure_shape(shape, ceilings, of_shape, lambda: self.save(report))
            release(self.device)
        report["ceilings"]["after"] = asdict(measure_ceilings(self.device, torch.bfloat16))
        self.save(report)
        return report

    def _measure_shape(self, shape: str, ceilings: Ceilings, report: dict[str, Any], save: Callable[[], None]) -> None:
        """Fill in what is known of one shape."""
        self.note(f"{shape}: random weights")
        start = now(self.device)
        model = self._attempt(partial(random_model, shape, self.device, quantize=self.quantize))
        if isinstance(model, str):
            report["cells"] = {cell.name: {"missing": model} for cell in self.cells}
            save()
            return
        report["build_s"] = now(self.device) - start
        report["conditions"] = conditions_of(shape, model) | backends_of(model, self.kv_dtype)
        report["weights_bytes"] = memory_of(model).weights
        for cell in sorted(self.cells, key=lambda cell: cell.kind != "start"):
            self.note(f"{shape}: {cell.name}")
            figures = self._attempt(partial(self._measure, model, ceilings, cell))
            report["cells"][cell.name] = {"missing": figures} if isinstance(figures, str) else figures
            report["peak_bytes"] = max(report.get("peak_bytes", 0), memory_of(model).peak)
            save()
            release(self.device)

    def _attempt(self, measure: Callable[[], Any]) -> Any:
        """The result, or why there is none."""
        try:
            self.limit.check()
            return measure()
        except NoTimeError:
            return NO_TIME
        except OutOfMemoryError as error:
            return f"does not fit: {error}"
        except Exception as error:  # noqa: BLE001 - a kernel that fails or does not compile takes no other figure along
            reason = str(error).partition("\n")[0]
            is_memory = isinstance(error, RuntimeError | MemoryError) and is_out_of_memory(error)
            return f"does not fit: {reason}" if is_memory else f"fails: {type(error).__name__}: {reason}"

    def _measure(self, model: Transformer, ceilings: Ceilings, cell: Cell) -> dict[str, Any]:
        if cell.kind == "start":
            return measure_start(model, self.kv_dtype)
        if cell.kind == "prefill":
            speed = measure_prefill(
                model,
                ceilings,
                prompt_tokens=cell.context,
                repeats=self.repeats,
                limit=self.limit,
                kv_dtype=self.kv_dtype,
            )
            return _figures(speed, tokens_per_run=cell.context)
        stopwatch = Stopwatch(
            model,
            batch_size=cell.batch_size,
            prompt_tokens=cell.context,
            new_tokens=self.new_tokens,
            kv_dtype=self.kv_dtype,
        )
        speed = decode_speed(stopwatch, ceilings, repeats=self.repeats, limit=self.limit)
        figures = _figures(speed, tokens_per_run=cell.batch_size)
        if self.with_profile:
            figures["profile"] = [asdict(kernel) for kernel in profile_step(stopwatch)]
        return figures


def measure_start(model: Transformer, kv_dtype: KVDtype) -> dict[str, Any]:
    """Seconds of short answers: the first of the process, which compiles; the first of a second engine, which only makes
    what each engine has of its own, its cache and what it captures; and those after it."""
    firsts, nexts = [], []
    for _ in range(2):
        start = now(model.device)
        stopwatch = Stopwatch(model, batch_size=1, prompt_tokens=16, new_tokens=ANSWER_TOKENS, kv_dtype=kv_dtype)
        stopwatch.run()
        firsts.append(now(model.device) - start)
        nexts.append(sum(stopwatch.run()))
    return {"first_answer_s": firsts[0], "first_of_next_engine_s": firsts[1], "next_answers_s": nexts}


def _figures(speed: Speed, *, tokens_per_run: int) -> dict[str, Any]:
    """A speed, and the time that it means: of a prompt, or of a step."""
    return asdict(speed) | {"ms": 1000 * tokens_per_run / speed.tokens_per_s}


def backends_of(model: Transformer, kv_dtype: KVDtype) -> dict[str, Any]:
    """What computes the model's attention and why others do not, and why not Triton's products and graphs of steps."""
    stored = storage_dtype(kv_dtype, model.dtype)
    config = EngineConfig(max_num_seqs=1, max_context=1, kv_dtype=kv_dtype)
    return {
        "attention": model.attention_backend(stored).name,
        "not_attention": reasons_against(model.device, model.dtype, model.args.head_dim, stored),
        "not_triton": reasons_against_triton(model.device),
        "not_graphs": reasons_against_step_graphs(model, config),
    }


def machine_of(device: torch.device) -> dict[str, Any]:
    """The device, and what the figures depend on beside this package."""
    return {
        "hardware": hardware_name(device),
        "driver": driver() if device.type == "cuda" else None,
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "xformers": _version("xformers"),
    }


def release(device: torch.device) -> None:
    """Give back what is not used any more, and forget the peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def driver() -> str | None:
    """Version, power limit and highest clock, as nvidia-smi says it; None if nobody can say."""
    asked = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.splitlines()[0] if said else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
