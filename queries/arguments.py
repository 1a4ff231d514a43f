"""What users hand over, whatever its type was to be: texts, and numbers of Python, NumPy and pandas. Pure."""

import numbers
import operator
from typing import Any, Final, TypeGuard

LARGEST: Final = (1 << 63) - 1
"""The largest whole number that Arrow and DuckDB take."""


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is one that says something."""
    return isinstance(value, str) and bool(value.strip())


def is_whole(value: Any, least: int, most: int = LARGEST) -> bool:
    """Whether it is a whole number from `least` to `most`; a bool is none."""
    try:
        return not isinstance(value, bool) and least <= operator.index(value) <= most
    except TypeError:
        return False


def number_of(value: object) -> int | float | None:
    """The number as Python has it; None for what is no number, as a bool is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return operator.index(value) if isinstance(value, numbers.Integral) else float(value)
