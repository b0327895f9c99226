"""The table of published archives, `models.tsv`; scripts/download.sh reads the same file."""

from dataclasses import dataclass
from pathlib import Path

TABLE_FILE = Path(__file__).parent / "models.tsv"
CACHED_TOKENS = 4096  # the context that `memory_bytes` leaves room for
LICENCE_NOTICES = {
    "MNPL-0.1": "the Mistral AI Non-Production License: no commercial use; https://mistral.ai/licenses/MNPL-0.1.md",
    "MRL-0.1": "the Mistral AI Research License: research and individual use only; https://mistral.ai/licenses/MRL-0.1.md",
}


@dataclass(frozen=True, slots=True)
class PublishedArchive:
    """One row of the table.

    Attributes:
        path: where the archive is, below the base address.
        md5: hexadecimal sums; several where an archive was published several times, first publication first.
        sha256: hexadecimal sums; none where none was published.
        tokenizer: its version, as mistral_common counts.
        parameters: number of weights, counted from the published shape.
        kv_bytes: bytes of keys and values per token, in bf16.
        kind: instruct or base.
        obstacle: why mistral_local cannot run the model yet; None when it can.
    """

    name: str
    path: str
    md5: tuple[str, ...]
    sha256: tuple[str, ...]
    licence: str
    tokenizer: str
    parameters: int
    kv_bytes: int
    kind: str
    obstacle: str | None

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in bf16, as they were published."""
        return 2 * self.parameters

    @property
    def memory_bytes(self) -> int:
        """Bytes that the weights and the keys and values of 4096 tokens take, in bf16."""
        return self.weight_bytes + CACHED_TOKENS * self.kv_bytes

    @property
    def licence_notice(self) -> str | None:
        """What the licence restricts; None when there is nothing to accept."""
        return LICENCE_NOTICES.get(self.licence)


def published_archives(file: Path = TABLE_FILE) -> dict[str, PublishedArchive]:
    """Read the table: name -> archive, in its order."""
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    archives = [_archive(*row) for row in rows]
    return {archive.name: archive for archive in archives}


def _archive(
    name: str,
    path: str,
    md5: str,
    sha256: str,
    licence: str,
    tokenizer: str,
    parameters: str,
    kv_bytes: str,
    kind: str,
    runs: str,
) -> PublishedArchive:
    return PublishedArchive(
        name=name,
        path=path,
        md5=_sums(md5),
        sha256=_sums(sha256),
        licence=licence,
        tokenizer=tokenizer,
        parameters=int(parameters),
        kv_bytes=int(kv_bytes),
        kind=kind,
        obstacle=None if runs == "yes" else runs.removeprefix("not yet: "),
    )


def _sums(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(text.split(","))
