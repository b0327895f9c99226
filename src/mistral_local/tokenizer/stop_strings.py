"""Texts that end an answer, found while it streams."""


class StopMatcher:
    """Passes text on until one of the stop strings appears; never lets a part of one out.

    Args:
        stop: texts that end the answer; the one that appears first in the text wins, then the longest.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """Take more text and return what cannot be part of a stop string any more."""
        if self.is_stopped:
            return ""
        self._held += text
        found = min((at for at in map(self._held.find, self._stop) if at >= 0), default=-1)
        if found >= 0:
            self.is_stopped = True
            out, self._held = self._held[:found], ""
            return out
        cut = len(self._held) - self._partial_len()
        out, self._held = self._held[:cut], self._held[cut:]
        return out

    def finish(self) -> str:
        """The text that was held back, when no more comes."""
        out, self._held = self._held, ""
        return out

    def _partial_len(self) -> int:
        """Length of the longest tail that is the beginning of a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(text.startswith(tail) for text in self._stop):
                return length
        return 0
