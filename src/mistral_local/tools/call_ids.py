"""Ids of function calls: nine letters and digits for the model, whatever a caller likes outside."""

from __future__ import annotations

import hashlib
import random
import re
import string
from collections.abc import Iterable

_ALPHABET = string.digits + string.ascii_letters
_LENGTH = 9
_USABLE = re.compile(rf"[a-zA-Z0-9]{{{_LENGTH}}}")


class CallIds:
    """The call ids of one conversation.

    Tokenizers v3 to v11 take nine of [a-zA-Z0-9] only.  An id of another form, such as `call_...`, gets a stand-in that
    depends on nothing but itself and the other ids, so that every turn of a conversation is encoded alike.

    Args:
        known: all ids of the conversation so far, of either form.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        known = list(dict.fromkeys(known))
        self._known = tuple(known)
        self._used = {call_id for call_id in known if is_usable(call_id)}
        self._random: random.Random = random.SystemRandom()
        self._outer: dict[str, str] = {}
        self._inner: dict[str, str] = {}
        for call_id in known:
            if not is_usable(call_id):
                self._add(call_id)

    def copy(self) -> CallIds:
        """The ids of the same conversation, for another answer to it."""
        return CallIds(self._known)

    def inner(self, call_id: str) -> str:
        """The id that the model sees for a known id."""
        return self._inner.get(call_id, call_id)

    def outer(self, call_id: str) -> str:
        """The caller's id for one that the model sees."""
        return self._outer.get(call_id, call_id)

    def stand_ins(self) -> dict[str, str]:
        """The caller's ids of another form, each with the one that the model sees."""
        return dict(self._inner)

    def restore(self, text: str) -> str:
        """A message in which the caller's ids stand for the stand-ins."""
        for inner, outer in self._outer.items():
            text = text.replace(inner, outer)
        return text

    def seed(self, seed: str) -> None:
        """Draw fresh ids from a seed from now on, so that a seeded answer can be had again with its ids."""
        self._random = random.Random(seed)

    def claim(self, wanted: str | None) -> str:
        """An id for a new call: the wanted one if it has the form and is free, else a fresh one."""
        while wanted is None or not is_usable(wanted) or wanted in self._used:
            wanted = "".join(self._random.choices(_ALPHABET, k=_LENGTH))
        self._used.add(wanted)
        return wanted

    def _add(self, outer: str) -> None:
        attempt = 0
        while (inner := _digest(outer, attempt)) in self._used:
            attempt += 1
        self._used.add(inner)
        self._inner[outer], self._outer[inner] = inner, outer


def is_usable(call_id: str) -> bool:
    """Whether an id has the form that every tokenizer takes."""
    return _USABLE.fullmatch(call_id) is not None


def _digest(call_id: str, attempt: int) -> str:
    text = f"{attempt} {call_id}".encode(errors="surrogatepass")
    number = int.from_bytes(hashlib.sha256(text).digest(), "big")
    return "".join(_ALPHABET[number // len(_ALPHABET) ** place % len(_ALPHABET)] for place in range(_LENGTH))
