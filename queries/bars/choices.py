"""What may be chosen of bars and trades: by a word, checked in Python and in SQL; and widths as people write them.

A width is by time, by ticks, by volume or by value. Pure.
"""

import datetime as dt
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, get_args

from queries.arguments import is_text
from queries.errors import QueryError, WidthError
from storage.clock import US_PER_DAY

Clock = Literal["exchange", "received"]
Sessions = Literal["continuous", "all"]
Fill = Literal["none", "null", "previous"]
Label = Literal["open", "close"]

_KINDS: Final = {"clock": Clock, "sessions": Sessions, "fill": Fill, "label": Label}


def check(name: str, value: object) -> None:
    """Raises QueryError unless the value is one of those that the parameter of this name has."""
    words = get_args(_KINDS[name])
    if not isinstance(value, str) or value not in words:
        raise QueryError(f"{name}: got {value!r}, expected one of {', '.join(words)}")


def checked_sql(name: str) -> str:
    """The same for a macro's parameter: its expression, of which nothing but its value is left in a plan."""
    words = get_args(_KINDS[name])
    texts = ", ".join(f"'{word}'" for word in words)
    return (
        f"CASE WHEN {name} IN ({texts}) THEN {name}"
        f" ELSE error('{name}: got ' || coalesce('''' || {name} || '''', 'NULL') || ', expected one of "
        f"{', '.join(words)}') END"
    )


WHOLE_SECONDS: Final = "whole seconds, at least one and at most a day"


class Measure(StrEnum):
    """What a bar is full by."""

    TIME = "time"
    TICKS = "ticks"
    VOLUME = "volume"
    VALUE = "value"


_UNITS: Final = {
    "s": 1_000_000, "sec": 1_000_000, "second": 1_000_000,
    "m": 60_000_000, "min": 60_000_000, "minute": 60_000_000,
    "h": 3_600_000_000, "hour": 3_600_000_000,
    "d": US_PER_DAY, "day": US_PER_DAY,
}  # fmt: skip
_COUNTS: Final = {
    "t": Measure.TICKS, "tick": Measure.TICKS, "v": Measure.VOLUME, "volume": Measure.VOLUME, "value": Measure.VALUE,
}  # fmt: skip
_FORM: Final = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*(s|[a-z]+?)s?", re.ASCII)
_EXPECTED: Final = "expected a width such as 30s, 1m, 15min, 1h, 1d, 100 ticks, 50000 volume or 1e7 value"


@dataclass(frozen=True)
class Width:
    """`size` is microseconds of time, trades, units or rupees."""

    measure: Measure
    size: int


def width_of(width: str | dt.timedelta) -> Width:
    """What the text means. Raises WidthError. Widths of time are whole seconds up to a day, and a day's session."""
    if isinstance(width, dt.timedelta):
        return _time(width // dt.timedelta(microseconds=1), width)
    found = _FORM.fullmatch(width.strip().lower()) if is_text(width) else None
    if found is None or found[2] not in {**_UNITS, **_COUNTS}:
        raise WidthError(f"width: got {width!r}, {_EXPECTED}")
    number, unit = float(found[1]), found[2]
    if math.isinf(number):
        raise WidthError(f"width: got {width!r}, expected a number less than 1e308")
    if unit in _UNITS:
        return _time(round(number * _UNITS[unit]), width)
    if number != int(number) or number < 1:
        raise WidthError(f"width: got {width!r}, expected a whole number of at least 1")
    return Width(_COUNTS[unit], int(number))


def _time(microseconds: int, said: object) -> Width:
    if microseconds < 1_000_000 or microseconds % 1_000_000 or microseconds > US_PER_DAY:
        raise WidthError(f"width: got {said!r}, expected {WHOLE_SECONDS}")
    return Width(Measure.TIME, microseconds)
