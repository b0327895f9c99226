"""The environment variables that the commands read; they are read here only.

MISTRAL_MODEL             folder of checkpoint folders: a bare name is looked up in it
MISTRAL_LOCAL_API_KEY     the key that clients of mistral-serve must show, if no flag names one
MISTRAL_LOCAL_URL         address of the server that mistral-local run and env point programs to; both set it for them
MISTRAL_DOWNLOAD_BASE     base address of the published archives (default https://models.mistralcdn.com)
MISTRAL_LOCAL_NOHISTORY   set to anything but nothing: mistral-chat keeps no history file
XDG_STATE_HOME            where the history file goes (default ~/.local/state)
NO_COLOR                  set to anything but nothing: no colours unless asked for by --color
TERM                      `dumb`: as if the output were no terminal

What torchrun sets is read in parallel/launch.py.  huggingface_hub reads its own: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.
"""

import os
from pathlib import Path

from mistral_local.hub.source import DEFAULT_BASE


def models_folder() -> Path | None:
    """Return the folder of checkpoint folders, if the user named one."""
    folder = os.environ.get("MISTRAL_MODEL")
    return Path(folder).expanduser() if folder else None


def server_key() -> str | None:
    """Return the key of the server, if the user set one."""
    return os.environ.get("MISTRAL_LOCAL_API_KEY") or None


def server_url() -> str | None:
    """Return the address of the server, if the user set one."""
    return os.environ.get("MISTRAL_LOCAL_URL") or None


def archive_base() -> str:
    """Return the address below which the published archives are."""
    return os.environ.get("MISTRAL_DOWNLOAD_BASE") or DEFAULT_BASE


def history_file() -> Path | None:
    """Return where the history of prompts is kept; None where it must not or cannot be."""
    if os.environ.get("MISTRAL_LOCAL_NOHISTORY"):
        return None
    state = os.environ.get("XDG_STATE_HOME")
    try:
        folder = Path(state) if state else Path.home() / ".local" / "state"
    except RuntimeError:  # no HOME and no such user
        return None
    return folder / "mistral_local" / "history"


def wants_color() -> bool:
    """Tell whether colours are welcome on a terminal."""
    return not os.environ.get("NO_COLOR") and not is_dumb_terminal()


def is_dumb_terminal() -> bool:
    """Tell whether the terminal understands no control sequences."""
    return os.environ.get("TERM", "dumb") == "dumb"
