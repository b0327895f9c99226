"""What figures depend on."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mistral_local import __version__
from mistral_local.engine.model_runner import runs_on_one_thread
from mistral_local.model.transformer import Transformer


def conditions_of(name: str, model: Transformer) -> dict[str, Any]:
    """Model, machine and versions, as plain data."""
    device = model.device
    return {
        "model": name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantized": model.quant_format,
        "hardware": hardware_name(device),
        "ranks": model.world.size,
        "stages": model.world.place.num_stages,
        "cores": os.cpu_count(),
        "threads": 1 if runs_on_one_thread(model) else torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mistral_local": __version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def hardware_name(device: torch.device) -> str:
    """What the GPU or processor calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
