"""What `mistral-download --dry_run` tells."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from mistral_local.cli.console import Console
from mistral_local.cli.download_progress import write_json
from mistral_local.hub.fetch import Patience, ask_patiently
from mistral_local.hub.huggingface import HubModel, bytes_to_fetch
from mistral_local.hub.install import is_installed
from mistral_local.hub.progress import Progress
from mistral_local.hub.source import ArchiveSource
from mistral_local.hub.space import check_space, free_bytes, gigabytes
from mistral_local.hub.staging import Staging


class Question(Protocol):
    """What of the command line a plan depends on."""

    @property
    def target(self) -> Path: ...
    @property
    def patience(self) -> Patience: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def offline(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a download would do.

    Attributes:
        size: bytes of the archive or files, as the server says; None when it was not asked or does not say.
        here: bytes of them that have come already.
        needed: bytes that must be free; None when the size is unknown.
        free: bytes that are.
    """

    source: str
    folder: str
    installed: bool
    size: int | None
    here: int
    needed: int | None
    free: int
    licence: str | None
    sums: tuple[str, ...]
    runs: str


def plan_archive(source: ArchiveSource, question: Question) -> Plan:
    """Ask the server about an archive; offline, tell what is known here.

    Raises:
        DownloadError: if the server cannot be asked, or refuses.
    """
    part, published = Staging(question.target).part, source.published
    origin = part.origin(source.archive.url)
    remote = origin if question.offline else ask_patiently(source.archive.url, question.patience, question.progress)
    size = remote.length if remote else None
    here = part.size if origin is not None and origin == remote else 0
    installed = is_installed(question.target)
    obstacle = published.obstacle if published else None
    return Plan(
        source=source.archive.url,
        folder=str(question.target),
        installed=installed,
        size=size,
        here=here,
        needed=0 if installed else None if size is None else 2 * size - here,
        free=free_bytes(question.target),
        licence=published.licence if published else None,
        sums=(*(f"md5 {one}" for one in source.archive.md5), *(f"sha256 {one}" for one in source.archive.sha256)),
        runs=f"not yet: {obstacle}" if obstacle else "yes" if published else "unknown",
    )


def plan_hub_model(model: HubModel, question: Question) -> Plan:
    """Tell what of a hub's repository would be fetched."""
    missing = bytes_to_fetch(model)
    installed = is_installed(question.target)
    return Plan(
        source=f"{model.endpoint}/{model.repo} at {model.commit}: {', '.join(file.name for file in model.files)}",
        folder=str(question.target),
        installed=installed,
        size=model.size,
        here=model.size - missing,
        needed=0 if installed else missing,
        free=free_bytes(question.target),
        licence=model.licence,
        sums=(),
        runs="unknown",
    )


def show_plan(console: Console, plan: Plan, *, as_json: bool) -> None:
    """Write the plan to stdout.

    Raises:
        DiskSpaceError: if there is no room for it; the plan has been written then.
    """
    if as_json:
        write_json(console, {"event": "plan", **asdict(plan)})
    else:
        for name, text in _lines(plan):
            console.answer(f"{name:<10}{text}\n")
    if plan.needed is not None:
        check_space(Path(plan.folder).parent, plan.needed, purpose="the download, until it is unpacked,")


def _lines(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("source", plan.source),
        ("folder", f"{plan.folder}{' (it is there already)' if plan.installed else ''}"),
        ("size", "unknown" if plan.size is None else gigabytes(plan.size)),
        ("here", gigabytes(plan.here)),
        ("room", f"{'unknown' if plan.needed is None else gigabytes(plan.needed)} needed, {gigabytes(plan.free)} free"),
        ("licence", plan.licence or "unknown"),
        *(("checksum", one) for one in plan.sums),
        ("runs", plan.runs),
    ]
