"""Find the name that a mistyped one was meant to be."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name most like `name`: one that it begins, else the closest spelling; None when nothing is near.

    >>> nearest("max_token", ["max_tokens", "temperature"])
    'max_tokens'
    >>> nearest("temp", ["max_tokens", "temperature"])
    'temperature'
    """
    candidates = list(names)
    begun = [candidate for candidate in candidates if len(name) > 1 and candidate.startswith(name)]
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    found = begun or close
    return found[0] if found else None


def did_you_mean(name: str, names: Iterable[str], *, prefix: str = "") -> str:
    """Return `; did you mean PREFIXname?`, or nothing when no name is near."""
    found = nearest(name, names)
    return f"; did you mean {prefix}{found}?" if found else ""
