"""When simulated contracts expire, and how their symbols say it, in the form of `storage.market.contracts`."""

import calendar
import datetime as dt
from collections.abc import Iterator
from itertools import count

from storage.market import MONTHS, WEEKLY_MONTHS, number_text


def future_symbol(name: str, expiry: dt.date) -> str:
    """`NIFTY26NOVFUT`."""
    return f"{name}{expiry:%y}{MONTHS[expiry.month - 1]}FUT"


def option_symbol(name: str, expiry: dt.date, weekly: bool, strike: float, kind: str) -> str:
    """`NIFTY26NOV24500CE`, or `NIFTY26D0124500CE` if the expiry is a weekly one."""
    code = f"{WEEKLY_MONTHS[expiry.month - 1]}{expiry:%d}" if weekly else MONTHS[expiry.month - 1]
    return f"{name}{expiry:%y}{code}{number_text(strike)}{kind}"


def monthly_expiries(day: dt.date, weekday: int) -> Iterator[dt.date]:
    """The last such weekday of each month, from `day` on."""
    for year, month in _months(day):
        last = dt.date(year, month, calendar.monthrange(year, month)[1])
        expiry = last - dt.timedelta(days=(last.weekday() - weekday) % 7)
        if expiry >= day:
            yield expiry


def weekly_expiries(day: dt.date, weekday: int) -> Iterator[dt.date]:
    """Every such weekday from `day` on, without the month's last."""
    first = day + dt.timedelta(days=(weekday - day.weekday()) % 7)
    for week in count():
        expiry = first + dt.timedelta(weeks=week)
        if (expiry + dt.timedelta(weeks=1)).month == expiry.month:
            yield expiry


def dated_expiries(day: dt.date, day_of_month: int) -> Iterator[dt.date]:
    """A day of each month, or the working day before it; 0: two working days before the month's last working day."""
    for year, month in _months(day):
        if day_of_month:
            expiry = _working_day(dt.date(year, month, day_of_month))
        else:
            expiry = _working_day(dt.date(year, month, calendar.monthrange(year, month)[1]))
            for _ in range(2):
                expiry = _working_day(expiry - dt.timedelta(days=1))
        if expiry >= day:
            yield expiry


def _months(day: dt.date) -> Iterator[tuple[int, int]]:
    for month in count(day.year * 12 + day.month - 1):
        yield month // 12, month % 12 + 1


def _working_day(day: dt.date) -> dt.date:
    return day - dt.timedelta(days=max(day.weekday() - 4, 0))
