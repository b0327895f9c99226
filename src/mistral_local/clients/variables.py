"""The environment variables by which clients find a server and its key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

STARTUP = Path(__file__).parent / "startup"
"""The folder that goes on PYTHONPATH, for clients of Python that read no variable."""

ROOTS = (
    "MISTRAL_LOCAL_URL",  # our start-up module and commands
    "RIZA_BASE_URL",  # rizaio
    "AZURE_INFERENCE_ENDPOINT",  # read by the programs of Azure's guides, not by the client
    "AZURE_AI_CHAT_ENDPOINT",
    "AZURE_AI_EMBEDDINGS_ENDPOINT",
)
OPENAI_ROOTS = ("OPENAI_BASE_URL", "OPENAI_API_BASE")  # with /v1; the second by older programs
KEYS = (
    "MISTRAL_LOCAL_API_KEY",
    "MISTRAL_API_KEY",
    "OPENAI_API_KEY",
    "RIZA_API_KEY",
    "AZURE_INFERENCE_CREDENTIAL",
    "AZURE_AI_CHAT_KEY",
    "AZURE_AI_EMBEDDINGS_KEY",
)
PROXIES = ("http_proxy", "all_proxy")


def client_variables(
    url: str, key: str, environment: Mapping[str, str], *, bypasses_proxy: bool = False
) -> dict[str, str]:
    """What to change in an environment so that clients ask the server at `url`.

    Args:
        url: without a path of its own and without a slash at the end.
        key: shown by all clients; not empty, because they would refuse that.
        bypasses_proxy: whether a proxy that the environment names must not be asked for it.
    """
    variables = dict.fromkeys(ROOTS, url) | dict.fromkeys(OPENAI_ROOTS, f"{url}/v1") | dict.fromkeys(KEYS, key)
    variables["PYTHONPATH"] = _joined(str(STARTUP), environment.get("PYTHONPATH"), os.pathsep)
    if bypasses_proxy and any(environment.get(name) or environment.get(name.upper()) for name in PROXIES):
        hosts = environment.get("no_proxy") or environment.get("NO_PROXY")
        variables |= dict.fromkeys(("no_proxy", "NO_PROXY"), _joined(urlsplit(url).hostname or "", hosts, ","))
    return variables


def _joined(first: str, others: str | None, separator: str) -> str:
    """A list with `first` at its head, and only there."""
    return separator.join(
        [first, *(other for other in others.split(separator) if other != first)] if others else [first]
    )
