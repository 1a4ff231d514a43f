"""The times of jobs: when a subscription list is captured, and a trigger that fires at moments of IST days."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from apscheduler.triggers.base import BaseTrigger

from kitelake.calendar import Calendar, Span, span_of
from kitelake.values import Hours
from storage.schema import IST

_ONE_DAY: Final = dt.timedelta(days=1)
_LOOK_AHEAD_DAYS: Final = 40


class Times(BaseTrigger):  # type: ignore[misc]
    """Fires at the moments that a function gives for each IST day, in any order, from 00:00 up to and with 24:00.

    After a sleep, a coalescing job runs once however many of its moments have passed, and jobs run in the order of the
    first moments that they missed, which is not the order of the last ones. If the clock is set back, nothing fires a
    second time. What a job does must therefore depend on the time of day (see `active`), not on which job it is.
    """

    __slots__ = ("_moments_of",)

    def __init__(self, moments_of: Callable[[dt.date], Iterable[dt.datetime]]) -> None:
        self._moments_of = moments_of

    def get_next_fire_time(self, previous_fire_time: dt.datetime | None, now: dt.datetime) -> dt.datetime | None:
        """The first moment after the previous one, even if it has passed; the first time, the first from now on.

        None, and APScheduler drops the job, if there is none within 40 days.
        """
        last = previous_fire_time
        today = (last or now).astimezone(IST).date()
        for ahead in range(-1, _LOOK_AHEAD_DAYS + 1):  # 24:00 of yesterday is 00:00 of today
            moments = self._moments_of(today + ahead * _ONE_DAY)
            coming = [moment for moment in moments if (moment >= now if last is None else moment > last)]
            if coming:
                return min(coming)
        return None


def windows(
    days: str | tuple[dt.date, ...],
    window: Hours | None,
    exchanges: Iterable[str],
    calendar: Calendar,
    date: dt.date,
) -> tuple[Span, ...]:
    """When on that day a list with instruments of these exchanges is captured; sorted and merged.

    `days` are "trading" (days on which one of the exchanges is open), "weekdays", "all", the name of an exchange (its
    trading days), or dates. `window` replaces the usual hours of every exchange, but not the hours of a special day.
    On a day of `days` on which all of them are closed, the usual hours hold. Raises ValueError for an unknown exchange.
    """
    exchanges = tuple(exchanges)
    if not _is_day(days, exchanges, calendar, date):
        return ()
    spans: list[Span] = []
    for exchange in exchanges:
        day = calendar.day(exchange, date)
        usual_day = bool(day.spans) and not day.special
        spans += [span_of(date, window)] if window and usual_day else day.spans
    if not spans:
        spans = [span_of(date, window)] if window else [calendar.usual(exchange, date) for exchange in exchanges]
    return merged(spans)


def _is_day(days: str | tuple[dt.date, ...], exchanges: Iterable[str], calendar: Calendar, date: dt.date) -> bool:
    if isinstance(days, tuple):
        return date in days
    if days == "trading":
        return any(calendar.trading_day(exchange, date) for exchange in exchanges)
    if days == "weekdays":
        return date.weekday() < 5
    return days == "all" or calendar.trading_day(days, date)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same time in as few spans as possible, sorted."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.start <= result[-1].stop:
            result[-1] = Span(result[-1].start, max(result[-1].stop, span.stop))
        else:
            result.append(span)
    return tuple(result)


def every(spans: Iterable[Span], step: dt.timedelta) -> Iterator[dt.datetime]:
    """The moments inside each span, one `step` after the other, without its start and its stop."""
    if step <= dt.timedelta():
        raise ValueError(f"expected a step longer than zero, got {step}")
    for start, stop in spans:
        moment = start + step
        while moment < stop:
            yield moment
            moment += step


def active(spans: Iterable[Span], now: dt.datetime) -> bool:
    """Whether now is inside one of the spans. A stop is outside."""
    return any(start <= now < stop for start, stop in spans)
