"""Wall-clock times and days in India, by whole numbers alone.

A time comes as nanoseconds since the epoch (UTC), and a table has its microsecond: what is less is cut off, downwards,
everywhere alike, so that a frame has one time and one day whoever converts it. A float of seconds cannot carry it:
since 2004 its steps are a quarter of a microsecond, and dividing by 1e9 rounds to the nearest, up to midnight and over.

Pure: no I/O, and no clock is read here.
"""

import datetime
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Whole = TypeVar("Whole", int, "NDArray[np.int64]")

IST: Final = datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST")
"""The zone of all days: India has one, without summer time."""
EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
NS_PER_US: Final = 1_000
NS_PER_SECOND: Final = 1_000_000_000
NS_PER_DAY: Final = 86_400 * NS_PER_SECOND
US_PER_DAY: Final = NS_PER_DAY // NS_PER_US
US_PER_SECOND: Final = NS_PER_SECOND // NS_PER_US
IST_OFFSET_NS: Final = (5 * 60 + 30) * 60 * NS_PER_SECOND
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_FIRST_DAY: Final = EPOCH.date()


def microseconds(ns: Whole) -> Whole:
    """Nanoseconds as the microseconds that a table has: of one time, or of an array of them."""
    return ns // NS_PER_US


def ist_days(ns: Whole) -> Whole:
    """Days of the calendar in India since 1970-01-01, for nanoseconds since the epoch."""
    return (ns + IST_OFFSET_NS) // NS_PER_DAY


def date_of_day(number: int) -> datetime.date:
    """The day with that number of `ist_days`."""
    return _FIRST_DAY + datetime.timedelta(days=number)


def ist_date(ns: int) -> datetime.date:
    """The day in India of nanoseconds since the epoch."""
    return date_of_day(ist_days(ns))


def ist_time(ns: int) -> datetime.datetime:
    """The microsecond of nanoseconds since the epoch, in IST."""
    return time_of(microseconds(ns))


def time_of(us: int) -> datetime.datetime:
    """Microseconds since the epoch as a time, in IST."""
    return (EPOCH + us * _MICROSECOND).astimezone(IST)


def us_of(moment: datetime.datetime) -> int:
    """Of a time with a zone: microseconds since the epoch."""
    return (moment - EPOCH) // _MICROSECOND


def nanoseconds(moment: datetime.datetime) -> int:
    """Of a time with a zone: nanoseconds since the epoch."""
    return us_of(moment) * NS_PER_US


def day_bounds_ns(date: datetime.date) -> tuple[int, int]:
    """When an IST day begins and ends, in nanoseconds since the epoch."""
    start = nanoseconds(datetime.datetime.combine(date, datetime.time(), IST))
    return start, start + NS_PER_DAY
