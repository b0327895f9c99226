"""The part of an archive that has come, and which file it is a part of."""

from dataclasses import dataclass
from pathlib import Path

from mistral_local.hub.http import RemoteFile


@dataclass(slots=True)
class Part:
    """`archive.part`, and beside it `archive.state` with the lines `url=`, `validator=` and `length=`.

    The state is written before the first byte, so that a part that was left at any moment is known for what it is.
    scripts/download.sh keeps the same two files.
    """

    file: Path
    state: Path

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.file.stat().st_size if self.file.exists() else 0

    def origin(self, url: str) -> RemoteFile | None:
        """What the part is a part of; None unless it is of `url` and can be told from a newer file there."""
        try:
            lines = dict(line.split("=", 1) for line in self.state.read_text(encoding="utf-8").splitlines())
            origin = RemoteFile(int(lines["length"]), lines["validator"] or None)
        except (OSError, ValueError, KeyError):
            return None
        return origin if lines.get("url") == url and origin.validator is not None else None

    def is_whole(self, url: str) -> bool:
        """Whether every byte of the file that was begun has come."""
        origin = self.origin(url)
        return origin is not None and self.size == origin.length

    def begin(self, url: str, remote: RemoteFile) -> None:
        """Forget what has come and begin another file."""
        self.discard()
        length = "" if remote.length is None else remote.length
        state = f"url={url}\nvalidator={remote.validator or ''}\nlength={length}\n"
        self.state.write_text(state, encoding="utf-8")
        self.file.touch()

    def discard(self) -> None:
        """Forget what has come."""
        self.state.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)
