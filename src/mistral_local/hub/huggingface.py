"""The native files of a hub's repository, through huggingface_hub.

That library reads HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE.  Files that its cache in HF_HOME already holds are
taken from there; what is missing is fetched beside the target, resumable, and not into the cache.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistral_local.errors import CheckpointError, ChecksumError, DownloadError, UsageError
from mistral_local.hub.archive import missing_files
from mistral_local.hub.checksum import file_sums
from mistral_local.hub.fetch import Patience, attempt
from mistral_local.hub.http import TRANSIENT_STATUS, TransientError
from mistral_local.hub.install import is_installed
from mistral_local.hub.manifest import write_manifest
from mistral_local.hub.progress import Progress
from mistral_local.hub.source import HubId
from mistral_local.hub.space import check_space, named_disk_errors
from mistral_local.hub.staging import Staging
from mistral_local.hub.table import LICENCE_NOTICES

NATIVE_PATTERNS = ("params.json", "consolidated*", "tokenizer.model*", "tekken.json")
_NATIVE = re.compile(
    r"params\.json|consolidated[\w.-]*\.(safetensors|pth)|consolidated\.safetensors\.index\.json"
    r"|tokenizer\.model[\w.-]*|tekken\.json"
)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A native file of a repository.

    Attributes:
        size: bytes; None when the hub does not say.
        sha256: its sum, if it is stored with Git LFS; else None.
        git_oid: sha1 of its git object, if it is stored in git itself; else None.
        cached: where HF_HOME holds it; None when it does not.
    """

    name: str
    size: int | None
    sha256: str | None
    git_oid: str | None
    cached: Path | None


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository as it is at one commit; all files come from that one."""

    endpoint: str
    repo: str
    commit: str
    licence: str | None
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of the files whose size is known."""
        return sum(file.size or 0 for file in self.files)

    @property
    def licence_notice(self) -> str | None:
        """What the licence restricts; None when there is nothing known to accept."""
        short = (self.licence or "").upper().split("-")[0]
        return next((notice for name, notice in LICENCE_NOTICES.items() if name.split("-")[0] == short), None)


def look_up(hub_id: HubId, patience: Patience, progress: Progress, *, offline: bool) -> HubModel:
    """Ask the hub which native files a repository has; offline, ask the cache.

    Raises:
        UsageError: if huggingface_hub is not installed.
        DownloadError: if the hub cannot be asked or refuses, or the cache does not hold the model.
        CheckpointError: if the repository is no native checkpoint.
    """
    library = _library()
    found: list[HubModel] = []

    def once() -> None:
        is_offline = offline or library.constants.HF_HUB_OFFLINE
        with_errors = _Errors(library, hub_id.repo)
        found.append(with_errors(lambda: (_look_up_cached if is_offline else _look_up_online)(library, hub_id)))

    attempt(once, patience, progress, reached=lambda: 0)
    if missing := missing_files({file.name for file in found[0].files}):
        raise CheckpointError(f"{hub_id.repo} is no checkpoint in the native format: it has no {missing}")
    return found[0]


def bytes_to_fetch(model: HubModel) -> int:
    """Bytes that the cache does not hold yet."""
    return sum(file.size or 0 for file in model.files if file.cached is None)


def install_hub_model(model: HubModel, target: Path, patience: Patience, progress: Progress) -> bool:
    """Put the files of `model` at `target`, whole and checked; return whether anything had to be done.

    Raises:
        DownloadError, ChecksumError, DiskSpaceError, DownloadBusyError, UsageError: as `install.install`.
    """
    staging = Staging(target)
    with staging.locked():
        if is_installed(target):
            staging.discard()
            return False
        fetched = staging.folder / "hub"
        check_space(staging.folder, bytes_to_fetch(model), purpose=f"the rest of {model.repo}")
        with named_disk_errors(staging.folder):
            _fetch_files(model, fetched, patience, progress)
            staging.clear_unpacked()
            staging.unpacked.mkdir()
            sums = {file.name: _place(file, fetched, staging.unpacked, progress) for file in model.files}
        write_manifest(staging.unpacked, f"{model.endpoint}/{model.repo} at {model.commit}", sums)
        staging.put_in_place()
    return True


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise UsageError("hub ids need huggingface_hub: pip install 'mistral_local[hub]'") from error
    library: Any = huggingface_hub
    library.logging.set_verbosity_error()
    return library


def _look_up_online(library: Any, hub_id: HubId) -> HubModel:
    found = library.HfApi().model_info(hub_id.repo, revision=hub_id.revision, files_metadata=True)
    card = found.card_data or {}
    files = tuple(
        HubFile(
            name=sibling.rfilename,
            size=sibling.size,
            sha256=sibling.lfs.sha256 if sibling.lfs else None,
            git_oid=None if sibling.lfs else sibling.blob_id,
            cached=_cached(library, hub_id.repo, sibling.rfilename, found.sha),
        )
        for sibling in found.siblings
        if _NATIVE.fullmatch(sibling.rfilename)
    )
    licence = card.get("license_name") or card.get("license")
    return HubModel(library.constants.ENDPOINT, hub_id.repo, found.sha, licence, files)


def _look_up_cached(library: Any, hub_id: HubId) -> HubModel:
    folder = Path(
        library.snapshot_download(
            hub_id.repo, revision=hub_id.revision, local_files_only=True, allow_patterns=list(NATIVE_PATTERNS)
        )
    )
    files = tuple(_cached_file(path) for path in sorted(folder.iterdir()) if _NATIVE.fullmatch(path.name))
    return HubModel(library.constants.ENDPOINT, hub_id.repo, folder.name, None, files)


def _cached(library: Any, repo: str, name: str, commit: str) -> Path | None:
    path = library.try_to_load_from_cache(repo, name, revision=commit)
    return Path(path) if isinstance(path, str) else None


def _cached_file(path: Path) -> HubFile:
    """Describe a file of the cache, which names its content by sha256 or git object."""
    blob = path.resolve().name
    return HubFile(
        name=path.name,
        size=path.stat().st_size,
        sha256=blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None,
        git_oid=blob if re.fullmatch(r"[0-9a-f]{40}", blob) else None,
        cached=path,
    )


def _fetch_files(model: HubModel, folder: Path, patience: Patience, progress: Progress) -> None:
    """Fetch what the cache does not hold into `folder`; a file that is there whole is not fetched again."""
    missing = [file for file in model.files if file.cached is None]
    if not missing:
        return
    library = _library()
    bars = _make_bar_class(library, progress)
    for file in missing:

        def once(name: str = file.name) -> None:
            _Errors(library, model.repo)(
                lambda: library.hf_hub_download(
                    model.repo,
                    name,
                    revision=model.commit,
                    local_dir=folder,
                    etag_timeout=patience.timeout_s,
                    tqdm_class=bars,
                )
            )

        attempt(once, patience, progress, reached=lambda: bars.num_bytes)


def _place(file: HubFile, fetched: Path, unpacked: Path, progress: Progress) -> str:
    """Check one file and link it to where it belongs; return its sha256."""
    source = file.cached.resolve() if file.cached else fetched / file.name
    sums = file_sums(source, ["sha256"], progress)
    expected = file.sha256 or file.git_oid
    found = sums["sha256"] if file.sha256 else _git_oid(source)
    if expected not in (None, found):
        if file.cached is None:
            source.unlink()
        raise ChecksumError(f"{file.name}: expected {expected}, found {found} ({source}); run again to fetch it anew")
    _link_or_copy(source, unpacked / file.name)  # what was fetched stays until the whole is in place
    return sums["sha256"]


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, which needs no room; across disks, copy it."""
    try:
        os.link(source, target)
    except OSError:
        check_space(target.parent, source.stat().st_size, purpose=f"a copy of {source}")
        shutil.copyfile(source, target)


def _git_oid(file: Path) -> str:
    """The sha1 by which git names a file's content."""
    content = file.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _make_bar_class(library: Any, progress: Progress) -> Any:
    """A tqdm class that draws nothing and tells `progress`; it counts all bytes in `num_bytes`."""

    class Bar(library.utils.tqdm):  # type: ignore[misc]
        num_bytes = 0

        def __init__(self, *_: Any, total: int | None = None, initial: int = 0, **__: Any) -> None:
            super().__init__(disable=True)
            self.is_open = True
            progress.begin("download", initial, total)

        def update(self, n: float | None = 1) -> None:
            progress.advance(int(n or 0))
            Bar.num_bytes += int(n or 0)

        def close(self) -> None:
            if getattr(self, "is_open", False):
                self.is_open = False
                progress.end()

    return Bar


class _Errors:
    """Calls huggingface_hub and turns what it raises into our own errors."""

    def __init__(self, library: Any, repo: str) -> None:
        self._errors = library.errors
        self._endpoint = library.constants.ENDPOINT
        self._repo = repo

    def __call__(self, call: Callable[[], Any]) -> Any:
        errors = self._errors
        refusals: Sequence[tuple[type[Exception], str]] = (
            (errors.GatedRepoError, "accept its terms on its page and set HF_TOKEN"),
            (errors.RepositoryNotFoundError, "there is no such repository, or HF_TOKEN does not open it"),
            (errors.RevisionNotFoundError, "there is no such revision"),
            (errors.RemoteEntryNotFoundError, "a file of it is gone"),
            (errors.OfflineModeIsEnabled, "nothing is fetched offline"),
        )
        try:
            return call()
        except tuple(kind for kind, _ in refusals) as error:
            reason = next(words for kind, words in refusals if isinstance(error, kind))
            raise DownloadError(f"{self._endpoint}/{self._repo}: {reason}") from error
        except errors.LocalEntryNotFoundError as error:
            raise self._not_here(error) from error
        except errors.HfHubHTTPError as error:
            raise self._status(error) from error
        except errors.HTTPError as error:
            raise TransientError(f"no answer from {self._endpoint} ({str(error) or type(error).__name__})") from error
        except errors.HFValidationError as error:
            raise UsageError(f"{self._repo} is no hub id ({error})") from error

    def _not_here(self, error: Exception) -> Exception:
        """Tell a file that could not be fetched from one that was looked for in the cache only."""
        cause = error.__cause__
        if isinstance(cause, self._errors.HTTPError) and not isinstance(cause, self._errors.OfflineModeIsEnabled):
            return TransientError(f"no answer from {self._endpoint} ({str(cause) or type(cause).__name__})")
        return DownloadError(f"{self._repo} is not in the cache of HF_HOME, and nothing is fetched offline")

    def _status(self, error: Any) -> Exception:
        status = error.response.status_code if error.response is not None else None
        if status in TRANSIENT_STATUS:
            return TransientError(f"{self._endpoint} answered {status}")
        return DownloadError(f"{self._endpoint}/{self._repo}: {error}")
