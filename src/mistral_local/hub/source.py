"""What `mistral-download` was asked for: a name of the table, an address, or a repository of a hub."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from mistral_local.errors import UsageError
from mistral_local.hub.http import check_url
from mistral_local.hub.install import Archive
from mistral_local.hub.table import PublishedArchive

DEFAULT_BASE = "https://models.mistralcdn.com"
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
_ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


@dataclass(frozen=True, slots=True)
class HubId:
    """A repository of a hub, and a branch, tag or commit of it; None is its main branch."""

    repo: str
    revision: str | None

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.repo.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An archive, and its row of the table if it is in it."""

    name: str
    archive: Archive
    published: PublishedArchive | None


def find_source(text: str, table: Mapping[str, PublishedArchive], base: str) -> ArchiveSource | HubId | None:
    """Read what was asked for; names of the table are found in any case.  None if it is nothing of the three.

    Raises:
        UsageError: if it is an address of another kind, or of something that is no tar archive.
    """
    if "://" in text:
        return ArchiveSource(_name_in(text), Archive(text), None)
    published = {name.lower(): row for name, row in table.items()}.get(text.lower())
    if published is not None:
        archive = Archive(f"{base.rstrip('/')}/{published.path}", published.md5, published.sha256)
        return ArchiveSource(published.name, archive, published)
    found = _HUB_ID.fullmatch(text)
    return HubId(found[1], found[2]) if found else None


def _name_in(url: str) -> str:
    """Return the name of the archive at the end of an address, without its ending."""
    check_url(url)
    file = PurePosixPath(unquote(urlsplit(url).path)).name
    for ending in _ARCHIVE_ENDINGS:
        name = file.removesuffix(ending)
        if name and name != file and name.isprintable() and not name.startswith("."):
            return name
    raise UsageError(f"expected the address of a tar archive ({', '.join(_ARCHIVE_ENDINGS)}), got {url}")
