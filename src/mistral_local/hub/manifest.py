"""`SHA256SUMS` in a downloaded folder: what its files were when they came.

The format is that of sha256sum: `sha256sum -c SHA256SUMS` checks the folder without this package.  The first line is a
comment that names the source.
"""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mistral_local.errors import CheckpointError, ChecksumError
from mistral_local.hub.checksum import file_sums
from mistral_local.hub.progress import Progress

FILE_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write_manifest(folder: Path, source: str, sums: Mapping[str, str]) -> None:
    """Write path -> sha256 beside the files."""
    lines = [f"# {source}", *(f"{value}  {path}" for path, value in sorted(sums.items()))]
    (folder / FILE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, str]:
    """Return path -> sha256 of a downloaded folder.

    Raises:
        CheckpointError: if the folder was not downloaded by this package, or its manifest is damaged.
    """
    file = folder / FILE_NAME
    if not folder.is_dir():
        raise CheckpointError(f"no folder {folder}")
    if not file.is_file():
        raise CheckpointError(f"{folder} has no {FILE_NAME} to check it by; mistral-local verify checks its tensors")
    sums = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#") or not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None or PurePosixPath(found[2]).is_absolute() or ".." in PurePosixPath(found[2]).parts:
            raise CheckpointError(f"{file}: expected lines of sha256sum, found {line[:60]!r}")
        sums[found[2]] = found[1]
    if not sums:
        raise CheckpointError(f"{file} names no file")
    return sums


def verify_folder(folder: Path, progress: Progress) -> int:
    """Check every file of a downloaded folder, and return how many there are.

    Raises:
        CheckpointError: if there is nothing to check by, or a file is missing.
        ChecksumError: if a file has changed.
    """
    sums = read_manifest(folder)
    if missing := sorted(path for path in sums if not (folder / path).is_file()):
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}; delete the folder and download it again")
    changed = [
        path for path, sum_then in sums.items() if file_sums(folder / path, ["sha256"], progress)["sha256"] != sum_then
    ]
    if changed:
        raise ChecksumError(f"{folder}: {', '.join(sorted(changed))} changed; delete the folder and download it again")
    return len(sums)
