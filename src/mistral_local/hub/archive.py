"""Unpack a tar archive that nobody vouches for: regular files and folders, below one folder, and nothing else."""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from mistral_local.errors import ArchiveError
from mistral_local.hub.progress import Progress
from mistral_local.hub.space import check_space, named_disk_errors

MAX_MEMBERS = 10_000
_PIECE = 1 << 20
_BLOCK = 512


def unpack(archive: Path, folder: Path, progress: Progress) -> dict[str, str]:
    """Unpack the checkpoint in `archive` into the new folder `folder`; return its files and their sha256 sums.

    Every member is judged before the first byte is written.  If all of them are in one folder, its content is what is
    unpacked.  Owners, modes, times and attributes in the archive are not taken over.

    Raises:
        ArchiveError: if the archive is damaged, has an unsafe member or holds no checkpoint.
        DiskSpaceError: if the content does not fit on the disk.
    """
    with _readable(archive) as tar:
        files = _strip_one_folder(_judge(archive, tar))
        total = sum(member.size for member in files.values())
        check_space(folder.parent, total, purpose=f"the content of {archive.name}")
        folder.mkdir()
        progress.begin("unpack", 0, total)
        try:
            with named_disk_errors(folder.parent):
                return {str(path): _write(tar, member, folder / path, progress) for path, member in files.items()}
        finally:
            progress.end()


@contextmanager
def _readable(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open the archive; whatever shows to be wrong with it inside the context becomes an ArchiveError."""
    try:
        with tarfile.open(archive, "r:*") as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, UnicodeError) as error:
        raise ArchiveError(f"{archive.name} is no whole tar archive ({error})") from error


def _judge(archive: Path, tar: tarfile.TarFile) -> dict[PurePosixPath, tarfile.TarInfo]:
    """Return path -> member of the files, after a look at every member."""
    files: dict[PurePosixPath, tarfile.TarInfo] = {}
    folders: set[PurePosixPath] = set()
    for num_members, member in enumerate(tar, start=1):
        if num_members > MAX_MEMBERS:
            raise ArchiveError(f"{archive.name} has more than {MAX_MEMBERS} members")
        path = _safe_path(archive, member)
        if member.isdir():
            folders.add(path)
        elif path in files:
            raise ArchiveError(f"{archive.name} has two members {member.name!r}")
        else:
            files[path] = member
    folders.update(parent for path in files for parent in path.parents)
    if both := folders & set(files):
        raise ArchiveError(f"{archive.name} has {str(min(both))!r} as a file and as a folder")
    _check_end(archive, tar)
    return files


def _safe_path(archive: Path, member: tarfile.TarInfo) -> PurePosixPath:
    """Return where the member belongs, below the folder it is unpacked to."""
    name = member.name
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        raise ArchiveError(f"{archive.name} has {name!r}, which is no regular file or folder")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise ArchiveError(f"{archive.name} has a member that is not safe to unpack: {name!r}")
    if not path.parts and not member.isdir():
        raise ArchiveError(f"{archive.name} has a file without a name")
    return path


def _check_end(archive: Path, tar: tarfile.TarFile) -> None:
    """Refuse an archive that breaks off: tarfile takes a damaged header behind the first for the end."""
    assert tar.fileobj is not None, "an open archive"
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(_BLOCK) != bytes(_BLOCK):
        raise ArchiveError(f"{archive.name} is damaged or cut at byte {tar.offset}")


def _strip_one_folder(files: dict[PurePosixPath, tarfile.TarInfo]) -> dict[PurePosixPath, tarfile.TarInfo]:
    """Find the checkpoint: at the top, or in the one folder there is."""
    tops = {path.parts[0] for path in files}
    if len(tops) == 1 and all(len(path.parts) > 1 for path in files):
        files = {PurePosixPath(*path.parts[1:]): member for path, member in files.items()}
    if missing := missing_files({str(path) for path in files}):
        held = ", ".join(sorted(tops)[:5]) or "nothing"
        raise ArchiveError(
            f"the archive is not one checkpoint: no {missing} at its top or in its one folder, which holds {held}"
        )
    return files


def missing_files(names: set[str]) -> str | None:
    """Say what of a native checkpoint is not among the names: params.json, weights or a tokenizer."""
    if "params.json" not in names:
        return "params.json"
    if not any(name.startswith("consolidated") and name.endswith((".safetensors", ".pth")) for name in names):
        return "consolidated weights"
    if not any(name.startswith("tokenizer.model") or name.endswith("tekken.json") for name in names):
        return "tokenizer"
    return None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, file: Path, progress: Progress) -> str:
    """Write one file and bring it to the disk; return its sha256."""
    source = tar.extractfile(member)
    assert source is not None, "only regular files are left"
    sum_so_far = hashlib.sha256()
    file.parent.mkdir(parents=True, exist_ok=True)
    with source, file.open("xb") as target:
        while piece := source.read(_PIECE):
            sum_so_far.update(piece)
            target.write(piece)
            progress.advance(len(piece))
        target.flush()
        os.fsync(target.fileno())
    if file.stat().st_size != member.size:
        raise ArchiveError(f"{member.name!r} breaks off at {file.stat().st_size} of {member.size} bytes")
    return sum_so_far.hexdigest()
