"""Spans of a day, as a test writes them."""

import datetime as dt

from storage.clock import IST
from storage.market import Span


def on(date: str, *hours: str) -> tuple[Span, ...]:
    """Spans of that day, each as HH:MM[:SS]-HH:MM[:SS]."""
    midnight = dt.datetime.fromisoformat(date).replace(tzinfo=IST)
    return tuple(Span(*(midnight + _since_midnight(time) for time in each.split("-"))) for each in hours)


def _since_midnight(time: str) -> dt.timedelta:
    hours, minutes, *seconds = map(int, time.split(":"))
    return dt.timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))
