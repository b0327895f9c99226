"""Checks of single fields; each raises ParamsError as `field: expected ..., found ...`."""

from mistral_local.args.json_object import shown
from mistral_local.errors import ParamsError


def check_int(field: str, value: object, *, low: int, high: int) -> int:
    """Return `value` when it is an integer (not a bool) in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise ParamsError(f"{field}: expected an integer from {low} to {high}, found {shown(value)}")
    return value


def check_float(field: str, value: object, *, low: float, high: float) -> float:
    """Return `value` as a float when it is a finite number (not a bool) with low < value <= high."""
    if type(value) not in (int, float) or not low < value <= high:  # type: ignore[operator]
        raise ParamsError(f"{field}: expected a number above {low:g} and up to {high:g}, found {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def check_bool(field: str, value: object) -> bool:
    """Return `value` when it is true or false."""
    if type(value) is not bool:
        raise ParamsError(f"{field}: expected true or false, found {shown(value)}")
    return value
