"""Find the checkpoint folder that a command was given."""

from pathlib import Path

from mistral_local.cli.environment import models_folder
from mistral_local.cli.nearest import did_you_mean
from mistral_local.errors import CheckpointError


def find_model_folder(name: str | None) -> Path | None:
    """Return the folder called `name` here, else in $MISTRAL_MODEL if it is a bare name; None stays None (the demo).

    Raises:
        CheckpointError: if there is no such folder; the message says where it was looked for.
    """
    if name is None:
        return None
    here = Path(name).expanduser()
    if here.is_dir():
        return here
    if here.exists():
        raise CheckpointError(f"{name} is a file; expected the folder that holds params.json")
    if not _is_bare(name):
        raise CheckpointError(f"no folder {name}")
    models = models_folder()
    if models is None:
        raise CheckpointError(f"no folder {name} here, and $MISTRAL_MODEL, where names are looked up, is not set")
    if (models / name).is_dir():
        return models / name
    raise CheckpointError(f"no folder {name} here or in $MISTRAL_MODEL ({models}){_known(name, models)}")


def _is_bare(name: str) -> bool:
    return len(Path(name).parts) == 1 and not name.startswith(("~", "."))


def _known(name: str, models: Path) -> str:
    if not models.is_dir():
        return ", which is no folder"
    folders = sorted(entry.name for entry in models.iterdir() if entry.is_dir())
    return did_you_mean(name, folders) or (f", which holds {', '.join(folders)}" if folders else ", which is empty")
