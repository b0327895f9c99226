"""Where the figures of mistral-bench go."""

import json
from pathlib import Path
from typing import Any

from mistral_local.errors import UsageError


def check_output(output: str | None) -> None:
    """Refuse a file that could not be written, before anything is measured."""
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise UsageError(f"--output: no folder {Path(output).absolute().parent}")


def save(report: dict[str, Any], output: str | None) -> None:
    """Write figures and their conditions to a JSON file, if one was named."""
    if output is not None:
        Path(output).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
