"""Which file of a checkpoint folder is its tokenizer."""

import re
from dataclasses import dataclass
from pathlib import Path

from mistral_local.errors import TokenizerError

_SENTENCEPIECE = re.compile(r"tokenizer\.model(?:\.v(\d+)(?:m\d+)?)?$")


@dataclass(frozen=True, slots=True)
class TokenizerChoice:
    """The tokenizer file that is taken, and those that are not."""

    file: Path
    others: tuple[Path, ...]


def find_tokenizer(folder: Path) -> TokenizerChoice:
    """Choose tekken.json, else the highest tokenizer.model.vN, else tokenizer.model.

    Raises:
        TokenizerError: if there is none; the files that lie there are named.
    """
    found = sorted((file for file in folder.iterdir() if _rank(file) is not None), key=lambda f: _rank(f) or 0)
    if not found:
        names = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
        raise TokenizerError(f"no tekken.json or tokenizer.model* in {folder}; it holds {names}")
    return TokenizerChoice(found[-1], tuple(found[:-1]))


def _rank(file: Path) -> int | None:
    """Order of preference, None for files that are no tokenizer."""
    if file.name == "tekken.json":
        return 1_000_000
    match = _SENTENCEPIECE.fullmatch(file.name)
    return None if match is None else int(match[1] or 0)
