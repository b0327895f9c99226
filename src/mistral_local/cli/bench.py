"""mistral-bench: how fast a checkpoint runs here, as shares of what this machine could do at best."""

import json
import tempfile
from pathlib import Path

from mistral_local.cli.console import Console
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.demo.locate import demo_checkpoint
from mistral_local.errors import UsageError


def run(
    model_path: str | None = None,
    *,
    shape: str | None = None,
    batch_sizes: str = "1,8",
    prompt_tokens: int = 512,
    new_tokens: int = 64,
    repeats: int = 3,
    device: str | None = None,
    output: str | None = None,
) -> None:
    """measure load time, prefill and decode, each as a share of this machine's own limit

    Args:
        model_path: checkpoint folder, or its name in $MISTRAL_MODEL; the bundled demo checkpoint if absent.
        shape: measure random bf16 weights instead: 350m, moe-400m or 7b.
        batch_sizes: sequences that decode together, separated by commas.
        prompt_tokens: tokens per prompt.
        new_tokens: tokens per answer, at least 2.
        repeats: each figure is the median of so many runs, after one that does not count.
        device: cuda or cpu; cuda if there is one.
        output: also write the figures and their conditions to this JSON file.
    """
    from mistral_local.bench.report import measure, table
    from mistral_local.bench.shapes import SHAPES, write_random_checkpoint

    if shape is not None and shape not in SHAPES:
        raise UsageError(f"--shape: expected one of {', '.join(SHAPES)}, got {shape!r}")
    if new_tokens < 2 or prompt_tokens < 1 or repeats < 1:
        raise UsageError("--new_tokens must be at least 2, --prompt_tokens and --repeats at least 1")
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise UsageError(f"--output: no folder {Path(output).absolute().parent}")
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        if shape is None:
            folder = find_model_folder(model_path) or demo_checkpoint()
        else:
            console.note(f"writing random weights of shape {shape}")
            folder = write_random_checkpoint(Path(scratch), shape)
        report = measure(
            folder,
            name=shape or (folder.name if model_path else "demo"),
            batch_sizes=_numbers(batch_sizes),
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            repeats=repeats,
            device=device,
            note=console.note,
        )
    print(table(report))
    if output is not None:
        Path(output).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--batch_sizes: expected numbers such as 1,8, got {text!r}")
    return [int(part) for part in parts]
