"""Calendars by a few special days, what they say of a day, and spans as a test writes them."""

import datetime as dt
from pathlib import Path
from typing import Any

from kitelake.config.calendar import CalendarSection
from kitelake.schedule.calendar import Calendar, Day
from storage.clock import IST
from storage.market import Span
from storage.market.exchanges import CURRENCIES, EQUITIES, EQUITY_DERIVATIVES
from storage.market.sessions import Phase

HEADER = "date,exchanges,hours,note\n"
MUHURAT = {"date": "2026-11-08", "hours": "18:00-19:15", "note": "Muhurat"}  # a Sunday
EVENING = {"date": "2026-11-10", "exchanges": ["MCX", "NCO"], "hours": "17:00-23:55"}  # a Tuesday, holiday of NSE
RECOVERY = {"date": "2026-11-14", "exchanges": ["NSE", "NFO"], "hours": ["09:15-10:00", "11:30-12:30"]}  # a Saturday
CLOSED = {"date": "2026-11-10", "exchanges": [*EQUITIES, *EQUITY_DERIVATIVES, *CURRENCIES], "hours": "closed"}


def calendar(*special_days: dict[str, Any], **options: Any) -> Calendar:
    return Calendar(CalendarSection.model_validate({"special_days": list(special_days), **options}))


NOVEMBER = calendar(MUHURAT, EVENING, CLOSED, RECOVERY)


def ist(text: str) -> dt.datetime:
    """A moment without a zone, in India."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=IST)


def day(made: Calendar, exchange: str, date: str) -> Day:
    return made.day(exchange, dt.date.fromisoformat(date))


def told(found: Day) -> tuple[tuple[Span, ...], str, bool, bool]:
    """When it is captured, why, and how sure that is."""
    return found.spans, found.why, found.sure, found.special


def trades(made: Calendar, exchange: str, date: str) -> list[str]:
    """Continuous trading, of whatever kind of instrument."""
    return list(map(str, day(made, exchange, date).hours(Phase.CONTINUOUS)))


def from_file(path: Path, rows: str, *special_days: dict[str, Any]) -> Calendar:
    path.write_text(HEADER + rows, encoding="utf-8")
    return calendar(*special_days, file=path)


def on(date: str, *hours: str) -> tuple[Span, ...]:
    """Spans of that day, each as HH:MM[:SS]-HH:MM[:SS]."""
    midnight = dt.datetime.fromisoformat(date).replace(tzinfo=IST)
    return tuple(Span(*(midnight + _since_midnight(time) for time in each.split("-"))) for each in hours)


def _since_midnight(time: str) -> dt.timedelta:
    hours, minutes, *seconds = map(int, time.split(":"))
    return dt.timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))
