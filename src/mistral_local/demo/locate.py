"""Where the bundled demo checkpoint is."""

from pathlib import Path

from mistral_local.errors import CheckpointError


def demo_checkpoint() -> Path:
    """The folder of the small model that comes with the package.

    Raises:
        CheckpointError: if the package was installed without it.
    """
    folder = Path(__file__).parent / "checkpoint"
    if not (folder / "params.json").is_file():
        raise CheckpointError(f"the demo checkpoint is not installed: {folder} has no params.json")
    return folder
