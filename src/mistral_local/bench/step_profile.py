"""Where the time of one decode step goes, kernel by kernel."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from mistral_local.bench.ceilings import now
from mistral_local.bench.stopwatch import Stopwatch

NUM_STEPS = 8
"""A profile is the mean of so many."""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A kernel of a GPU, or on a CPU an operation without those that it calls.

    Attributes:
        per_step: how often it runs in a step.
        ms: time of all its runs in a step.
    """

    name: str
    per_step: float
    ms: float


def profile_step(stopwatch: Stopwatch) -> list[KernelTime]:
    """Profile decode steps of an engine that has run before; the longest kernel comes first.

    What their times lack to the time of a step without the profiler is gaps, where the device waits for the host.
    """
    device = stopwatch.model.device
    sequences = stopwatch.begin()
    stopwatch.engine.step()
    now(device)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    num_steps = min(NUM_STEPS, stopwatch.new_tokens - 2)
    with profile(activities=activities) as profiler:
        for _ in range(num_steps):
            stopwatch.engine.step()
        now(device)
    for sequence in sequences:
        stopwatch.engine.abort(sequence)
    return kernel_times(profiler.key_averages(), device, num_steps)


def kernel_times(averages: Iterable[Any], device: torch.device, num_steps: int) -> list[KernelTime]:
    """What torch.profiler has averaged, as times per step; its own time is not counted."""
    if device.type == "cuda":
        own = [
            (each, each.self_device_time_total)
            for each in averages
            if each.device_type == DeviceType.CUDA and not each.is_user_annotation
        ]
    else:
        own = [(each, each.self_cpu_time_total) for each in averages]
    times = [KernelTime(each.key, each.count / num_steps, us / 1000 / num_steps) for each, us in own if us > 0]
    return sorted(times, key=lambda time: -time.ms)
