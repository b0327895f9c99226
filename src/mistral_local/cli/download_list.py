"""The list of published archives."""

import dataclasses
from collections.abc import Iterable

from mistral_local.cli.console import Console
from mistral_local.cli.download_progress import write_json
from mistral_local.hub.space import gigabytes
from mistral_local.hub.table import CACHED_TOKENS, PublishedArchive

_HEAD = ("name", "size", "memory", "licence", "tokenizer", "runs")
_EXPLAINED = (
    "size: the weights in bf16, counted from the published shape; --dry_run asks the server for the archive's own size\n"
    f"memory: the weights, and the keys and values of {CACHED_TOKENS} tokens, in bf16\n"
    "MNPL and MRL restrict the use: these need --accept_license\n"
)


def show_list(console: Console, archives: Iterable[PublishedArchive], *, as_json: bool) -> None:
    """Write the list to stdout: a table and its legend, or one JSON object per line."""
    if as_json:
        for archive in archives:
            sizes = {"weight_bytes": archive.weight_bytes, "memory_bytes": archive.memory_bytes, "archive_bytes": None}
            write_json(console, dataclasses.asdict(archive) | sizes)
        return
    rows = [_HEAD, *(_row(archive) for archive in archives)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        console.answer("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    console.answer("\n" + _EXPLAINED)


def _row(archive: PublishedArchive) -> tuple[str, ...]:
    return (
        archive.name,
        gigabytes(archive.weight_bytes),
        gigabytes(archive.memory_bytes),
        archive.licence,
        archive.tokenizer,
        f"not yet: {archive.obstacle}" if archive.obstacle else "yes",
    )
