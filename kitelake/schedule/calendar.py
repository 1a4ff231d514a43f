"""The trading calendar: when each exchange trades and is captured on a day, and how sure that is.

What is known of a day, first that applies: `always_open`; the special days of config.yaml; those of its file; days that
the exchanges announced, as far as they are built in (`storage.market.special_days`); the holidays of NSE, from a file
with the exchange's own list or else as the `holidays` library has them, which also says on which weekend day Muhurat
trading may be that the list leaves out; the usual sessions of a weekday
(`storage.market.sessions`). An exchange without sessions that are known is always open.

A guess of the library is no announcement: what follows the moon moves at short notice (on 2023-06-28 it has a holiday
to this day, and NSE traded), so only days with a fixed date, and what the user gives, close an exchange for sure. When
unsure it counts as open: listening to a closed exchange costs nothing, and ticks that were not captured cannot be had
again.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from kitelake.config import CalendarSection, Config, SpecialDay, by_exchange
from kitelake.schedule.calendar_file import CalendarFile, read_calendar_file
from storage.market import (
    BY_DAY,
    COMMODITIES,
    CURRENCIES,
    END_OF_DAY,
    Hours,
    InstrumentKind,
    Phase,
    Span,
    TradingSession,
    around,
    capture_hours,
    is_scheduled,
    merged,
    span_of,
    usual_sessions,
)

log = structlog.get_logger()

Sessions = Mapping[InstrumentKind, tuple[TradingSession, ...]]

_MUHURAT: Final = re.compile("Laxmi|Lakshmi|Muhurat", re.IGNORECASE)
_MUHURAT_HOURS: Final = Hours(dt.time(9), dt.time(20))  # 13:45-14:45 in 2025, an evening hour before
_FIXED: Final = re.compile(
    "Republic Day|Good Friday|Ambedkar Jayanti|Maharashtra Day|Independence Day|Gandhi Jayanti|Christmas"
)
_WHOLE_DAY: Final = Hours(dt.time(), END_OF_DAY)
_ONE_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True)
class Day:
    """One exchange on one day.

    `spans` is when it is captured: sorted, without overlaps; none: closed. `sessions` is when each kind of instrument
    trades, if it does. `special`: the hours are this day's own, not the usual ones.
    """

    spans: tuple[Span, ...]
    sessions: Sessions
    why: str
    sure: bool
    special: bool

    def hours(self, phase: Phase) -> tuple[Hours, ...]:
        """When any kind of instrument is in this phase; sorted, without overlaps."""
        found: list[Hours] = []
        for hours in sorted({s.hours for each in self.sessions.values() for s in each if s.phase is phase}):
            if found and hours.start <= found[-1].stop:
                found[-1] = Hours(found[-1].start, max(found[-1].stop, hours.stop))
            else:
                found.append(hours)
        return tuple(found)


class Calendar:
    """Answers for every exchange, known or not, and every date."""

    def __init__(self, section: CalendarSection) -> None:
        """Reads the file. Raises ConfigError, which names the file and the line, if it cannot be used."""
        self._section = section
        self._file = CalendarFile() if section.file is None else read_calendar_file(section.file)
        self._special_days = {"config.yaml": by_exchange(("", entry) for entry in section.special_days)}
        if section.file is not None:
            self._special_days[section.file.name] = dict(self._file.special_days)
        self._listed_years = {date.year for date in self._file.holidays}
        self._library: dict[int, Mapping[dt.date, str]] = {}
        self._library_failed = False

    def usual(self, exchange: str, date: dt.date) -> Span:
        """The usual hours of capture, whether or not it is open on that day."""
        given = self._section.usual_hours(exchange, date)
        return span_of(date, capture_hours(exchange, date) if given is None else around(given))

    def day(self, exchange: str, date: dt.date) -> Day:
        """When it is open, and why."""
        if self._section.always_open:
            return Day(
                (span_of(date, _WHOLE_DAY),), _continuous((_WHOLE_DAY,)), "always open", sure=True, special=False
            )
        for source, entries in self._special_days.items():
            if (date, exchange) in entries:
                return self._special(exchange, source, entries[date, exchange])
        announced = BY_DAY.get((date, exchange))
        if announced is not None and announced.trading is None:
            return self._usual(exchange, date, f"announced: {announced.note}", sure=True)
        if announced is not None and announced.trading:
            return _at(date, announced.trading, f"announced: {announced.note}", sure=True)
        if not is_scheduled(exchange):
            why = f"{exchange} has no sessions that are known: captured around the clock"
            return self._usual(exchange, date, why, sure=False)
        closed = announced or BY_DAY.get((date, "NSE"))  # where that says nothing of its own
        return self._by_holidays(exchange, date, closed.note if closed is not None and closed.trading == () else "")

    def trading_day(self, exchange: str, date: dt.date) -> bool:
        """Whether it is open at some time of that day, or may be."""
        return bool(self.day(exchange, date).spans)

    def warnings(self, date: dt.date) -> list[str]:
        """What is missing from the calendar as of that day, and what to do about it."""
        if self._section.always_open:
            return []
        warnings = [
            f"no holidays of NSE are known for {year}: every weekday is captured. Update them with `pip install "
            "--upgrade holidays`, or give NSE's own list as calendar.file"
            for year in ((date.year, date.year + 1) if date.month == 12 else (date.year,))
            if not self._holidays_of(year)
        ]
        if self._section.file is not None and self._file.last_year < date.year:
            warnings.append(
                f"{self._section.file}: holds no day of {date.year} or later, it may be out of date. "
                "Add the days of this year to it, or take calendar.file out of config.yaml"
            )
        return warnings

    def _by_holidays(self, exchange: str, date: dt.date, announced: str) -> Day:
        holidays = self._holidays_of(date.year)
        # The exchange's own list is of its shares and their derivatives: other markets close on other days, too.
        is_listed = date.year in self._listed_years and exchange not in (*CURRENCIES, *COMMODITIES)
        holiday = holidays.get(date, "")
        if not holiday and date.weekday() >= 5:
            holiday = self._muhurat_of_library(date)  # the exchange's list may have weekdays alone
        if _MUHURAT.search(holiday):
            why = f"not sure: {holiday}, with Muhurat trading at hours that the exchange announces"
            wide = merged((span_of(date, _MUHURAT_HOURS), self.usual(exchange, date)))
            return Day(wide, _continuous(span.hours for span in wide), why, sure=False, special=True)
        if date.weekday() >= 5:
            return Day((), {}, "weekend", sure=True, special=False)
        if not holidays:
            return self._usual(exchange, date, f"not sure: no holidays known for {date.year}", sure=False)
        if not holiday and not announced:
            return self._usual(exchange, date, "usual hours", sure=True)
        name = holiday or announced
        if exchange in COMMODITIES:
            why = f"may be a holiday: {name}; {exchange} usually opens in the evening at least"
        elif (is_listed and holiday) or _FIXED.search(name):
            return Day((), {}, f"holiday: {name}", sure=True, special=False)
        else:
            why = f"may be a holiday: {name}"
        return self._usual(exchange, date, why, sure=False)

    def _usual(self, exchange: str, date: dt.date, why: str, *, sure: bool) -> Day:
        given = self._section.usual_hours(exchange, date)
        sessions = usual_sessions(exchange, date) if given is None else _continuous((given,))
        return Day((self.usual(exchange, date),), sessions, why, sure=sure, special=False)

    def _special(self, exchange: str, source: str, entry: SpecialDay) -> Day:
        if entry.hours == "open":
            return self._usual(exchange, entry.date, f"{source}: {entry.note or 'open'}", sure=True)
        hours = () if entry.hours == "closed" else entry.hours
        why = f"{source}: {entry.note or ', '.join(map(str, hours)) or 'closed'}"
        return _at(entry.date, hours, why, sure=True)

    def _holidays_of(self, year: int) -> Mapping[dt.date, str]:
        """NSE's holidays by date, by its own list or else the library's, also on weekends; none: not known."""
        return self._file.holidays if year in self._listed_years else self._library_of(year)

    def _muhurat_of_library(self, date: dt.date) -> str:
        holiday = self._library_of(date.year).get(date, "")
        return holiday if _MUHURAT.search(holiday) else ""

    def _library_of(self, year: int) -> Mapping[dt.date, str]:
        if year not in self._library:
            try:
                import holidays

                # Without a language it takes the host's, and without `observed` it leaves out weekends.
                known = holidays.financial_holidays("XNSE", years=year, observed=False, language="en_US")
                self._library[year] = dict(known)
            except Exception as error:
                self._library[year] = {}
                if not self._library_failed:
                    log.warning("the holidays of NSE cannot be had; every weekday is captured", error=repr(error))
                self._library_failed = True
        return self._library[year]


def _at(date: dt.date, trading: Iterable[Hours], why: str, *, sure: bool) -> Day:
    """A day with trading hours of its own; none: closed."""
    trading = tuple(trading)
    spans = merged(span_of(date, around(hours)) for hours in trading)
    return Day(spans, _continuous(trading) if trading else {}, why, sure=sure, special=True)


def _continuous(hours: Iterable[Hours]) -> Sessions:
    return dict.fromkeys(InstrumentKind, tuple(TradingSession(Phase.CONTINUOUS, each) for each in hours))


def calendar_of(config: Config) -> Calendar:
    """The calendar of a configuration; the embedded simulator and a replay never close. Raises ConfigError."""
    section = config.calendar
    return Calendar(section if config.source == "kite" else section.model_copy(update={"always_open": True}))
