"""The sliding_window field: one width, a repeating pattern of widths (null: all keys), or either as a string."""

from mistral_local.args.checks import check_int
from mistral_local.args.json_object import shown
from mistral_local.errors import ParamsError

Window = int | list[int | None] | str | None
MAX_WINDOW = 2**31 - 1


def parse_window(field: str, value: object) -> int | list[int | None] | None:
    """Return a width, a pattern of widths or None; raise ParamsError for anything else.

    >>> parse_window("sliding_window", "null, 32768")
    [None, 32768]
    """
    if isinstance(value, str):
        value = _from_string(field, value)
    if isinstance(value, list):
        if not 1 <= len(value) <= 1024:
            raise ParamsError(f"{field}: expected a list of 1 to 1024 widths, found {len(value)}")
        return [None if width is None else check_int(field, width, low=1, high=MAX_WINDOW) for width in value]
    return None if value is None else check_int(field, value, low=1, high=MAX_WINDOW)


def _from_string(field: str, text: str) -> int | list[int | None] | None:
    """Read "4096", "null", "null,32768" or "[null, 32768]"."""
    widths: list[int | None] = []
    for word in text.strip().removeprefix("[").removesuffix("]").split(","):
        word = word.strip()
        if word.lower() in ("null", "none"):
            widths.append(None)
        elif word.isascii() and word.isdigit() and len(word) <= 10:
            widths.append(int(word))
        else:
            raise ParamsError(f"{field}: expected a width or a list of widths, found {shown(text)}")
    return widths if len(widths) > 1 or text.strip().startswith("[") else widths[0]
