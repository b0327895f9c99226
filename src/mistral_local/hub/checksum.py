"""Sums of files: is this what was published?"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mistral_local.errors import ChecksumError
from mistral_local.hub.progress import Progress

_PIECE = 1 << 20


def file_sums(file: Path, algorithms: Sequence[str], progress: Progress) -> dict[str, str]:
    """Return algorithm -> hexadecimal sum, read in one pass."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    progress.begin("verify", 0, file.stat().st_size)
    try:
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE):
                for one in hashes.values():
                    one.update(piece)
                progress.advance(len(piece))
    finally:
        progress.end()
    return {name: one.hexdigest() for name, one in hashes.items()}


def check_sums(file: Path, expected: Mapping[str, Sequence[str]], progress: Progress) -> list[str]:
    """Check a file against the published sums, and return in words what was found.

    Args:
        expected: algorithm -> sums, any of which will do; algorithms without one are passed over.

    Raises:
        ChecksumError: if an algorithm's sum is none of those expected.
    """
    known = {name: sums for name, sums in expected.items() if sums}
    found = file_sums(file, list(known), progress) if known else {}
    for name, sums in known.items():
        if found[name] not in sums:
            wanted = " or ".join(sums)
            raise ChecksumError(f"{name} of {file.name}: expected {wanted}, found {found[name]}")
    return [_in_words(name, found[name], sums) for name, sums in known.items()]


def _in_words(name: str, found: str, sums: Sequence[str]) -> str:
    which = f" (publication {sums.index(found) + 1} of {len(sums)})" if len(sums) > 1 else ""
    return f"{name} {found}{which}"
