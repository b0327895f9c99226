"""mistral-download: get a checkpoint."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from mistral_local.cli.console import Console
from mistral_local.cli.download_list import show_list
from mistral_local.cli.download_plan import plan_archive, plan_hub_model, show_plan
from mistral_local.cli.download_progress import make_progress, write_json
from mistral_local.cli.environment import archive_base, models_folder
from mistral_local.cli.nearest import did_you_mean
from mistral_local.errors import LicenceError, UsageError
from mistral_local.hub.fetch import Patience
from mistral_local.hub.huggingface import install_hub_model, look_up
from mistral_local.hub.install import install, is_installed
from mistral_local.hub.manifest import verify_folder
from mistral_local.hub.progress import Progress
from mistral_local.hub.source import ArchiveSource, HubId, find_source
from mistral_local.hub.staging import Staging
from mistral_local.hub.table import PublishedArchive, published_archives


@dataclass(frozen=True, slots=True)
class _Errand:
    """One call of the command, its flags read."""

    console: Console
    target: Path
    patience: Patience
    progress: Progress
    dry_run: bool
    offline: bool
    accept_license: bool
    quiet: bool
    as_json: bool


def download(
    source: str | None = None,
    folder: str | None = None,
    *,
    list: bool = False,  # noqa: A002 - the flag is --list
    verify_only: bool = False,
    dry_run: bool = False,
    offline: bool = False,
    accept_license: bool = False,
    md5: str | None = None,
    sha256: str | None = None,
    retries: int = 6,
    timeout_s: float = 30.0,
    quiet: bool = False,
    json: bool = False,
) -> None:
    """get a checkpoint: fetch it, check it, and put it in place whole

    Args:
        source: name of a published archive (--list), repository of a hub (ORG/NAME or ORG/NAME@REVISION), or http(s) address of a tar archive
        folder: where the checkpoint goes; without it $MISTRAL_MODEL/NAME
        list: list the published archives: size, memory, licence, tokenizer, and whether they can run yet
        verify_only: check the files of a folder that was downloaded before; nothing is fetched
        dry_run: say what would be fetched, from where, how large it is and whether there is room; nothing is fetched
        offline: use what is here already, and do not touch the network
        accept_license: accept the licence of a model whose use is restricted
        md5: sum that the archive must have, for an address
        sha256: sum that the archive must have, for an address
        retries: failures in a row, without a new byte between them, after the first
        timeout_s: seconds of silence after which a connection counts as broken
        quiet: write errors only
        json: write progress and result as JSON, one object per line of stdout

    Raises:
        DownloadError: if it cannot be fetched; what has come stays, and the same command goes on.
        ChecksumError: if it is not what was published.
    """
    console = Console()
    table = published_archives()
    if list:
        show_list(console, table.values(), as_json=json)
        return
    if source is None:
        raise UsageError("expected a name, a hub id or an address; --list shows the names")
    if retries < 0 or timeout_s <= 0:
        raise UsageError(f"expected --retries of 0 or more and --timeout_s above 0, got {retries} and {timeout_s}")
    found = _with_sums(_find(source, table), md5, sha256)
    errand = _Errand(
        console=console,
        target=_target(folder, found.name),
        patience=Patience(retries=retries, timeout_s=timeout_s),
        progress=make_progress(console, quiet=quiet, as_json=json),
        dry_run=dry_run,
        offline=offline,
        accept_license=accept_license,
        quiet=quiet,
        as_json=json,
    )
    if verify_only:
        num_files = verify_folder(errand.target, errand.progress)
        _tell(errand, "verified", f"{errand.target}: {num_files} files are as they came")
        return
    try:
        if isinstance(found, HubId):
            _download_hub_model(found, errand)
        else:
            _download_archive(found, errand)
    except KeyboardInterrupt:
        errand.progress.note("stopped; the same command goes on from here")
        raise


def _find(text: str, table: dict[str, PublishedArchive]) -> ArchiveSource | HubId:
    found = find_source(text, table, archive_base())
    if found is None:
        raise UsageError(f"unknown name {text}{did_you_mean(text, table)} (--list shows the names)")
    return found


def _with_sums(found: ArchiveSource | HubId, md5: str | None, sha256: str | None) -> ArchiveSource | HubId:
    """Add the sums of --md5 and --sha256 to an archive that has none."""
    if md5 is None and sha256 is None:
        return found
    if isinstance(found, HubId) or found.published is not None:
        raise UsageError("--md5 and --sha256 are for an address; names and hub ids come with their own sums")
    archive = replace(found.archive, md5=_given_sum("--md5", md5, 32), sha256=_given_sum("--sha256", sha256, 64))
    return replace(found, archive=archive)


def _given_sum(flag: str, value: str | None, num_digits: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if len(value) != num_digits or set(value.lower()) - set("0123456789abcdef"):
        raise UsageError(f"{flag}: expected {num_digits} hexadecimal digits, got {value!r}")
    return (value.lower(),)


def _target(folder: str | None, name: str) -> Path:
    if folder is not None:
        return Path(folder).expanduser().resolve()
    models = models_folder()
    if models is None:
        raise UsageError("expected a folder after the name, or $MISTRAL_MODEL set to the folder of models")
    return (models / name).resolve()


def _download_archive(source: ArchiveSource, errand: _Errand) -> None:
    published = source.published
    if errand.dry_run:
        show_plan(errand.console, plan_archive(source, errand), as_json=errand.as_json)
        return
    if published is not None and not is_installed(errand.target):
        _check_licence(source.name, published.licence_notice, errand)
    if published is not None and published.obstacle:
        errand.progress.note(f"mistral_local cannot run {source.name} yet: {published.obstacle}")
    is_new = install(source.archive, errand.target, errand.patience, errand.progress, offline=errand.offline)
    is_instruct = published.kind == "instruct" if published else "instruct" in source.name.lower()
    _finish(errand, is_new=is_new, is_instruct=is_instruct, can_run=published is None or not published.obstacle)


def _download_hub_model(hub_id: HubId, errand: _Errand) -> None:
    is_new = not is_installed(errand.target)
    if is_new or errand.dry_run:
        model = look_up(hub_id, errand.patience, errand.progress, offline=errand.offline)
        if errand.dry_run:
            show_plan(errand.console, plan_hub_model(model, errand), as_json=errand.as_json)
            return
        _check_licence(hub_id.repo, model.licence_notice, errand)
        is_new = install_hub_model(model, errand.target, errand.patience, errand.progress)
    else:
        Staging(errand.target).discard()
    _finish(errand, is_new=is_new, is_instruct="instruct" in hub_id.name.lower(), can_run=True)


def _check_licence(name: str, notice: str | None, errand: _Errand) -> None:
    if notice is None:
        return
    if not errand.accept_license:
        raise LicenceError(f"{name} comes under {notice}; read it, then say --accept_license")
    errand.progress.note(f"{name} comes under {notice}")


def _finish(errand: _Errand, *, is_new: bool, is_instruct: bool, can_run: bool) -> None:
    folder = shlex.quote(str(errand.target))
    command = f"mistral-chat {folder} --instruct" if is_instruct else f"mistral-demo {folder}"
    state = "is ready" if is_new else "was here already; --verify_only checks its files"
    _tell(errand, "ready", f"{errand.target} {state}", next_command=command if can_run else None)


def _tell(errand: _Errand, event: str, text: str, *, next_command: str | None = None) -> None:
    """Say how it ended: the next command on stdout, the rest on stderr."""
    if errand.as_json:
        write_json(errand.console, {"event": event, "folder": str(errand.target), "next": next_command})
    elif not errand.quiet:
        errand.console.note(text + (".  Next:" if next_command else ""))
        if next_command:
            errand.console.answer(next_command + "\n")
