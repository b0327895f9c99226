"""Load the model that a command was asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mistral_local.cli.console import Console, can_redraw
from mistral_local.cli.environment import num_processes
from mistral_local.cli.loading_bar import LoadingBar
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.errors import UsageError

if TYPE_CHECKING:
    from mistral_local.tasks.llm import LLM

T = TypeVar("T")


def find_placement(model_path: str | None, num_pipeline_ranks: int) -> Path | None:
    """Find the folder and refuse what needs several processes, before anything is loaded.

    Raises:
        UsageError: for more than one rank or process.
        CheckpointError: if there is no such folder.
    """
    if num_pipeline_ranks < 1:
        raise UsageError(f"--num_pipeline_ranks: expected 1, got {num_pipeline_ranks}")
    if num_pipeline_ranks > 1:
        raise UsageError(
            f"--num_pipeline_ranks {num_pipeline_ranks} needs torchrun and several GPUs, "
            "which mistral_local does not support yet; leave it at 1"
        )
    if num_processes() > 1:
        raise UsageError(
            f"torchrun started {num_processes()} processes, but mistral_local runs in one only; start it without torchrun"
        )
    return find_model_folder(model_path)


def load_model(folder: Path | None, console: Console, **how: Any) -> "LLM":
    """Load a checkpoint with the notices, and on a terminal the progress, on stderr.

    Args:
        folder: None is the bundled demo checkpoint.
        how: keywords of `mistral_local.load`.
    """
    from mistral_local.tasks.llm import load  # imports torch

    return show_loading(load, folder, console, **how)


def show_loading(load: Callable[..., T], folder: Path | None, console: Console, **how: Any) -> T:
    """Call `load` with the folder and `how`, and show what it says and how far it has come, as load_model() does."""
    if not can_redraw(console):
        return load(folder, note=console.note, **how)
    bar = LoadingBar(console.raw_err)
    bar.start(str(folder or "the demo checkpoint"))

    def note(text: str) -> None:
        bar.clear()
        console.note(text)

    try:
        return load(folder, note=note, progress=bar, **how)
    finally:
        bar.clear()
