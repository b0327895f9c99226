"""Load the model that a command was asked for."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mistral_local.cli.console import Console, can_redraw
from mistral_local.cli.loading_bar import LoadingBar
from mistral_local.cli.model_folder import find_model_folder
from mistral_local.errors import RankLostError, UsageError
from mistral_local.parallel.launch import find_launch

if TYPE_CHECKING:
    from mistral_local.tasks.llm import LLM

T = TypeVar("T")


def find_placement(model_path: str | None, num_pipeline_ranks: int) -> Path | None:
    """Find the folder and refuse stages that the processes cannot form, before anything is loaded.

    Raises:
        UsageError: if their number is no divisor of that of the processes.
        CheckpointError: if there is no such folder.
    """
    num_processes = find_launch().world_size
    if num_pipeline_ranks < 1:
        raise UsageError(f"--num_pipeline_ranks: expected at least 1, got {num_pipeline_ranks}")
    if num_processes % num_pipeline_ranks:
        hint = (
            "" if num_processes > 1 else f"; start them by torchrun --nproc-per-node {num_pipeline_ranks} --no-python"
        )
        raise UsageError(
            f"--num_pipeline_ranks {num_pipeline_ranks} needs a multiple of so many processes, "
            f"there {'are' if num_processes > 1 else 'is'} {num_processes}{hint}"
        )
    return find_model_folder(model_path)


def follow(folder: Path | None, **how: Any) -> None:
    """On every rank but the first of torchrun, serve the first silently until it ends, and end the process then.

    Called before anything is read from stdin: the ranks share it.

    Args:
        how: as load_runtime(), which rank 0 calls with the same.
    """
    if not find_launch().is_follower:
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is to be put right here, and torchrun waits for it
    from mistral_local.tasks.loading import load_runtime  # imports torch

    load_runtime(folder, **how)


def load_model(folder: Path | None, console: Console, **how: Any) -> "LLM":
    """Load a checkpoint with the notices, and on a terminal the progress, on stderr.

    Args:
        folder: None is the bundled demo checkpoint.
        how: keywords of `mistral_local.load`.
    """
    from mistral_local.tasks.llm import load  # imports torch

    if find_launch().world_size > 1:
        how["on_rank_loss"] = lambda cause: _end_because(cause, console)
    return show_loading(load, folder, console, **how)


def _end_because(cause: str, console: Console) -> None:
    """Say which rank is lost, and end as at SIGTERM: the terminal is put in order."""
    console.error(RankLostError(cause))
    os.kill(os.getpid(), signal.SIGTERM)


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
