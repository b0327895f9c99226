"""The road of an archive: fetch, check, unpack, put in place."""

from dataclasses import dataclass
from pathlib import Path

from mistral_local.errors import ArchiveError, ChecksumError, DownloadError, UsageError
from mistral_local.hub.archive import unpack
from mistral_local.hub.checksum import check_sums
from mistral_local.hub.fetch import Patience, fetch
from mistral_local.hub.manifest import FILE_NAME, write_manifest
from mistral_local.hub.progress import Progress
from mistral_local.hub.staging import Staging


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive to install.

    Attributes:
        md5, sha256: published sums, any of which will do; none where none is known.
    """

    url: str
    md5: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()


def is_installed(target: Path) -> bool:
    """Whether a download has been put there; it was whole then.

    Raises:
        UsageError: if something else is in the way.
    """
    if (target / FILE_NAME).is_file():
        return True
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(f"{target} exists and was not downloaded by this command; give another folder")
    return False


def install(archive: Archive, target: Path, patience: Patience, progress: Progress, *, offline: bool = False) -> bool:
    """Put the checkpoint of `archive` at `target`, whole and checked; return whether anything had to be done.

    Raises:
        DownloadError: if it cannot be fetched, or nothing is here yet and `offline` is set.
        ChecksumError: if it is not what was published; the archive is removed.
        ArchiveError: if it is not safe to unpack, or no checkpoint; removed unless it is what was published.
        DiskSpaceError, DownloadBusyError, UsageError: if there is no room, another process, or something in the way.
    """
    staging = Staging(target)
    if is_installed(target):
        staging.discard()  # there if a process was ended between the rename and this
        return False
    with staging.locked():
        if is_installed(target):  # the process that held the lock has just finished
            staging.discard()
            return False
        _complete_part(archive, staging, patience, progress, offline=offline)
        found = _check(archive, staging, progress)
        staging.clear_unpacked()
        try:
            sums = unpack(staging.part.file, staging.unpacked, progress)
        except ArchiveError:
            staging.clear_unpacked()
            if not found:  # it may have been damaged on its way
                staging.part.discard()
            raise
        write_manifest(staging.unpacked, " ".join([archive.url, *found]), sums)
        staging.put_in_place()
    return True


def _complete_part(
    archive: Archive, staging: Staging, patience: Patience, progress: Progress, *, offline: bool
) -> None:
    """Fetch what is missing; a whole part is asked about again only when no sum can tell whether it is right."""
    if staging.part.is_whole(archive.url) and (offline or archive.md5 or archive.sha256):
        return
    if offline:
        raise DownloadError(f"{staging.target} is not here, and nothing is fetched offline")
    fetch(archive.url, staging.part, patience, progress)


def _check(archive: Archive, staging: Staging, progress: Progress) -> list[str]:
    try:
        found = check_sums(staging.part.file, {"md5": archive.md5, "sha256": archive.sha256}, progress)
    except ChecksumError as error:
        staging.part.discard()
        raise ChecksumError(f"{archive.url}: {error}; it was removed, run again to fetch it anew") from error
    progress.note(
        ", ".join(found) if found else "no checksum is known for this archive: it was not checked against any"
    )
    return found
