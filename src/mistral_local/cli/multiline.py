'''Messages of several lines, enclosed in """.'''

FENCE = '"""'


def is_open(text: str) -> bool:
    '''Tell whether the text begins with """ that nothing closes yet.

    >>> is_open('"""def f():'), is_open('"""a"""'), is_open('a"""')
    (True, False, False)
    '''
    stripped = text.strip()
    return stripped.startswith(FENCE) and not (len(stripped) >= 2 * len(FENCE) and stripped.endswith(FENCE))


def unfenced(text: str) -> str | None:
    '''Return what stands between the fences, without the line ends next to them; None if the text has none.

    >>> unfenced('"""\\n/help\\n"""')
    '/help'
    '''
    stripped = text.strip()
    if not stripped.startswith(FENCE) or is_open(stripped):
        return None
    return stripped.removeprefix(FENCE).removesuffix(FENCE).removeprefix("\n").removesuffix("\n")
