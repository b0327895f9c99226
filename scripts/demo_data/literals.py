"""Long tuples of strings, written as blocks of text."""


def words(text: str) -> tuple[str, ...]:
    """Split at blanks."""
    return tuple(text.split())


def bars(text: str) -> tuple[str, ...]:
    """Split at vertical bars."""
    return tuple(text.split("|"))


def lines(text: str) -> tuple[str, ...]:
    """Split into stripped lines."""
    return tuple(line.strip() for line in text.strip().splitlines())
