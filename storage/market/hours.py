"""Times and hours of a day in India, as the market's tables and config.yaml write them. Pure."""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from storage.clock import IST

END_OF_DAY: Final = dt.time.max
"""24:00, which is no time of a day."""


class Hours(NamedTuple):
    """From `start` up to `stop` of one IST day."""

    start: dt.time
    stop: dt.time

    def __str__(self) -> str:
        return f"{clock(self.start)}-{clock(self.stop)}"


def clock(time: dt.time) -> str:
    """`15:35`, `15:35:30`, and `24:00` for END_OF_DAY."""
    if time == END_OF_DAY:
        return "24:00"
    return time.isoformat("seconds" if time.second else "minutes")


def shifted(time: dt.time, by: dt.timedelta) -> dt.time:
    """The same day's time so much later or earlier, to the second; not before 00:00 or after 24:00."""
    seconds = 86_400 if time == END_OF_DAY else time.hour * 3600 + time.minute * 60 + time.second
    seconds = max(0, seconds + int(by.total_seconds()))
    return END_OF_DAY if seconds >= 86_400 else dt.time(seconds // 3600, seconds // 60 % 60, seconds % 60)


class Span(NamedTuple):
    """From `start` up to `stop`, both in IST and on one day; `stop` may be its 24:00."""

    start: dt.datetime
    stop: dt.datetime

    @property
    def hours(self) -> Hours:
        """The same as times of day."""
        stop = self.stop.time() if self.stop.date() == self.start.date() else END_OF_DAY
        return Hours(self.start.time(), stop)


def span_of(date: dt.date, hours: Hours) -> Span:
    """These hours of that day."""
    stop = dt.datetime.combine(date, hours.stop, IST)
    if hours.stop == END_OF_DAY:
        stop = dt.datetime.combine(date + dt.timedelta(days=1), dt.time(), IST)
    return Span(dt.datetime.combine(date, hours.start, IST), stop)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same time in as few spans as possible, sorted."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.start <= result[-1].stop:
            result[-1] = Span(result[-1].start, max(result[-1].stop, span.stop))
        else:
            result.append(span)
    return tuple(result)


_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)


def time_of_day(given: Any) -> dt.time:
    """HH:MM or HH:MM:SS, always in IST. Without quotes YAML reads 10:35 as the number 635, minutes in base 60."""
    if isinstance(given, dt.time) and given.tzinfo is None:
        return given
    match = _CLOCK.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError('expected a time of day in IST, in quotes and without a zone: "HH:MM", such as "08:35"')
    return dt.time(int(match[1]), int(match[2]), int(match[3] or 0))


def hours_of(given: Any) -> Hours:
    """HH:MM-HH:MM in IST, within one day, of which 24:00 is the end."""
    if isinstance(given, Hours):
        return given
    parts = given.split("-") if isinstance(given, str) else ()
    try:
        start, stop = (part.strip() for part in parts)
        hours = Hours(time_of_day(start), END_OF_DAY if stop == "24:00" else time_of_day(stop))
    except ValueError:
        raise ValueError('expected hours of one day in IST: "HH:MM-HH:MM", such as "09:00-15:35"') from None
    if hours.start >= hours.stop:
        raise ValueError('expected hours of one day in IST that end after they begin, such as "09:00-15:35"')
    return hours
