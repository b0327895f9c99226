"""Texts that end an answer, found while it streams."""


class StopMatcher:
    """Passes text on until one of the stop strings appears; never lets a part of one out.

    Args:
        stop: texts that end the answer; the one that is complete first in the text wins, then the longest.  So the
            result does not depend on how the text is cut into pieces.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.is_stopped = False

    def push(self, text: str) -> str:
        """Take more text and return what cannot be part of a stop string any more."""
        if not self._stop:
            return text
        if self.is_stopped:
            return ""
        self._held += text
        starts = [(text, self._held.find(text)) for text in self._stop]
        if found := [(start + len(text), start) for text, start in starts if start >= 0]:
            _, first = min(found)
            self.is_stopped = True
            out, self._held = self._held[:first], ""
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
