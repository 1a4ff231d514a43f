"""The trading calendar: when each exchange is open on a day, and how sure that is.

What is known of a day, first that applies: `always_open`; the special days of config.yaml; those of the file; NSE's
holidays as the `holidays` library has them; the usual hours of a weekday. The library knows NSE only. It knows no
sessions on weekends but Muhurat trading, whose hours it does not know, and its dates of a year that NSE has not
announced yet are estimates. When unsure, the exchange counts as open: listening to a closed exchange costs nothing,
and ticks that were not captured cannot be had again.

Hours are those of capture: from before the pre-open session until the last packets that the broker sends. Trading
itself is 09:15-15:30 for equities and their derivatives, 09:00-17:00 for currencies, 09:00-23:30 or, while New York is
on winter time, 09:00-23:55 for commodities (NSE, BSE and MCX, market timings).
"""

import csv
import datetime as dt
import io
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

import structlog
from pydantic import BeforeValidator, Field, PlainValidator, ValidationError, model_validator

from kitelake.errors import ConfigError
from kitelake.values import END_OF_DAY, Hours, Section, hours_of, path_of
from storage.files import open_regular
from storage.schema import IST

log = structlog.get_logger()

Exchange = Literal["NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX", "NCO"]
EXCHANGES: Final[tuple[str, ...]] = get_args(Exchange)

_USUAL: Final[dict[str, Hours]] = {
    **dict.fromkeys(("NSE", "BSE", "NFO", "BFO"), Hours(dt.time(9), dt.time(15, 35))),
    **dict.fromkeys(("CDS", "BCD"), Hours(dt.time(9), dt.time(17, 5))),
    **dict.fromkeys(("MCX", "NCO"), Hours(dt.time(9), END_OF_DAY)),
}
_OPEN_ON_HOLIDAYS: Final = ("MCX", "NCO")  # most holidays of NSE close only their morning session
_MUHURAT: Final = "Diwali Lakshmi Puja"
_MUHURAT_HOURS: Final = Hours(dt.time(9), dt.time(20))  # 13:45-14:45 in 2025, an evening hour before
_ESTIMATED: Final = "(estimated)"
_FIXED: Final = re.compile(  # known years ahead; the others depend on the moon, and on what NSE makes of it
    "Republic Day|Good Friday|Ambedkar Jayanti|Maharashtra Day|Independence Day|Gandhi Jayanti|Christmas Day"
)
_COLUMNS: Final = ["date", "exchanges", "hours", "note"]
_ONE_DAY: Final = dt.timedelta(days=1)


class Span(NamedTuple):
    """From `start` up to `stop`, both in IST and on one day; `stop` may be its 24:00."""

    start: dt.datetime
    stop: dt.datetime

    @property
    def hours(self) -> Hours:
        """The same as times of day."""
        stop = self.stop.time() if self.stop.date() == self.start.date() else END_OF_DAY
        return Hours(self.start.time(), stop)


@dataclass(frozen=True)
class Day:
    """One exchange on one day."""

    spans: tuple[Span, ...]  # sorted, without overlaps; none: closed
    why: str
    sure: bool
    special: bool  # the hours are this day's own, not the usual ones


def date_of(given: Any) -> dt.date:
    """A date, or its text. Raises ValueError, without what was given."""
    if isinstance(given, dt.date) and not isinstance(given, dt.datetime):
        return given
    try:
        date = dt.date.fromisoformat(given)
    except (TypeError, ValueError):
        date = None
    if date is None or date.isoformat() != given:  # it also reads 20261108 and 2026-W45-7
        raise ValueError("expected a date: YYYY-MM-DD, such as 2026-11-08")
    return date


def _exchanges_of(given: Any) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        upper = tuple(dict.fromkeys(name.upper() for name in names))
        if set(upper) <= set(EXCHANGES):
            return upper
    raise ValueError(f"expected one or several of {', '.join(EXCHANGES)}; without any, all are meant")


def _special_hours_of(given: Any) -> Literal["closed", "open"] | tuple[Hours, ...]:
    if given in ("closed", "open"):
        return "closed" if given == "closed" else "open"
    several = isinstance(given, str) and given.count("-") > 1
    parts = given.split() if several else [given] if isinstance(given, str) else given
    if not isinstance(parts, list | tuple) or not parts or parts == [""]:
        raise ValueError('expected "closed", "open" (the usual hours), or hours such as "18:00-19:15"')
    try:
        hours = tuple(sorted(map(hours_of, parts)))
    except ValueError as error:
        raise ValueError(f'{error}; or "closed", or "open" (the usual hours)') from None
    if any(later.start < earlier.stop for earlier, later in itertools.pairwise(hours)):
        raise ValueError("expected hours that do not overlap")
    return hours


class SpecialDay(Section):
    """A day that differs from the usual: closed, open on a weekend, or open at other hours."""

    date: Annotated[dt.date, PlainValidator(date_of)]
    exchanges: Annotated[tuple[str, ...], PlainValidator(_exchanges_of)] = Field(default=(), description="(): all")
    hours: Annotated[Literal["closed", "open"] | tuple[Hours, ...], PlainValidator(_special_hours_of)] = Field(
        description='"closed", "open" (the usual hours), or "HH:MM-HH:MM" in IST; several with spaces between'
    )
    note: str = Field(default="", description="what the day is, for the logs")


class CalendarSection(Section):
    """The trading calendar, where it differs from what is built in."""

    special_days: tuple[SpecialDay, ...] = ()
    file: Annotated[Path, BeforeValidator(lambda given: path_of(given, "a file"))] | None = Field(
        default=None,
        description="a CSV of more special days: date,exchanges,hours,note; spaces between exchanges and between hours",
    )
    always_open: bool = Field(default=False, description="the market never closes: a simulator, a replay")
    hours: Mapping[Exchange, Annotated[Hours, PlainValidator(hours_of)]] = Field(
        default_factory=dict, description="the usual hours of an exchange, instead of the built-in ones"
    )

    @model_validator(mode="after")
    def _one_entry_each(self) -> Self:
        _by_exchange((f"special_days[{index}]", entry) for index, entry in enumerate(self.special_days))
        return self


def _by_exchange(entries: Iterable[tuple[str, SpecialDay]]) -> dict[tuple[dt.date, str], SpecialDay]:
    """Entries by date and exchange. Raises ValueError, with their places, if two are of the same."""
    places: dict[tuple[dt.date, str], str] = {}
    found = {}
    for place, entry in entries:
        for exchange in entry.exchanges or EXCHANGES:
            key = entry.date, exchange
            if key in found:
                raise ValueError(
                    f"{places[key]} and {place} are both of {exchange} on {entry.date}; expected one entry for each "
                    "exchange and date (an entry without exchanges is of all)"
                )
            places[key], found[key] = place, entry
    return found


def span_of(date: dt.date, hours: Hours) -> Span:
    """These hours of that day."""
    stop = dt.datetime.combine(date, hours.stop, IST)
    if hours.stop == END_OF_DAY:
        stop = dt.datetime.combine(date + _ONE_DAY, dt.time(), IST)
    return Span(dt.datetime.combine(date, hours.start, IST), stop)


class Calendar:
    """Answers for every exchange of EXCHANGES and every date; for another exchange every method raises ValueError."""

    def __init__(self, section: CalendarSection) -> None:
        """Reads the file. Raises ConfigError, which names the file and the line, if it cannot be used."""
        self._always_open = section.always_open
        self._usual = _USUAL | {str(exchange): hours for exchange, hours in section.hours.items()}
        self._file = section.file
        self._special_days = {"config.yaml": _by_exchange(("", entry) for entry in section.special_days)}
        self._last_year_of_file = 0
        if section.file is not None:
            entries = _read(section.file)
            self._special_days[section.file.name] = entries
            self._last_year_of_file = max((date.year for date, _ in entries), default=0)
        self._holidays: dict[int, Mapping[dt.date, str]] = {}
        self._library_failed = False

    def usual(self, exchange: str, date: dt.date) -> Span:
        """The usual hours, whether or not it is open on that day."""
        if exchange not in self._usual:
            raise ValueError(f"expected one of the exchanges {', '.join(EXCHANGES)}; got {exchange!r}")
        return span_of(date, self._usual[exchange])

    def day(self, exchange: str, date: dt.date) -> Day:
        """When it is open, and why."""
        usual = self.usual(exchange, date)
        if self._always_open:
            midnight = dt.datetime.combine(date, dt.time(), IST)
            return Day((Span(midnight, midnight + _ONE_DAY),), "always open", sure=True, special=False)
        for source, entries in self._special_days.items():
            if (date, exchange) in entries:
                return _special(usual, source, entries[date, exchange])
        holidays = self._holidays_of(date.year)
        holiday = holidays.get(date, "")
        if _MUHURAT in holiday:
            muhurat = span_of(date, _MUHURAT_HOURS)
            widened = Span(min(usual.start, muhurat.start), max(usual.stop, muhurat.stop))
            why = f"not sure: {holiday}, with Muhurat trading at hours that the exchange announces"
            return Day((widened,), why, sure=False, special=True)
        if date.weekday() >= 5:
            return Day((), "weekend", sure=True, special=False)
        if not holidays:
            return Day((usual,), f"not sure: no holidays known for {date.year}", sure=False, special=False)
        if not holiday:
            return Day((usual,), "usual hours", sure=True, special=False)
        if exchange in _OPEN_ON_HOLIDAYS:
            why = f"not sure: NSE is closed ({holiday}), {exchange} usually opens in the evening at least"
        elif _is_estimate(holiday, holidays):
            why = f"not sure: holiday by estimate: {holiday.removesuffix(_ESTIMATED).strip()}"
        else:
            return Day((), f"holiday: {holiday}", sure=True, special=False)
        return Day((usual,), why, sure=False, special=False)

    def trading_day(self, exchange: str, date: dt.date) -> bool:
        """Whether it is open at some time of that day, or may be."""
        return bool(self.day(exchange, date).spans)

    def warnings(self, date: dt.date) -> list[str]:
        """What is missing from the calendar as of that day, and what to do about it."""
        if self._always_open:
            return []
        cure = "Update them with `pip install --upgrade holidays`, or enter these days under calendar.special_days"
        warnings = []
        for year in (date.year, date.year + 1) if date.month == 12 else (date.year,):
            holidays = self._holidays_of(year)
            if not holidays:
                warnings.append(f"no holidays of NSE are known for {year}: every weekday is captured. {cure}")
            unsure = [
                day.isoformat()
                for day, holiday in sorted(holidays.items())
                if day >= date and _MUHURAT not in holiday and not self.day("NSE", day).sure
            ]
            if unsure:
                warnings.append(
                    f"the holidays of NSE in {year} are estimates, and these days are captured in case it is open: "
                    f"{', '.join(unsure)}. {cure}"
                )
        if self._file is not None and self._last_year_of_file < date.year:
            warnings.append(
                f"{self._file}: holds no day of {date.year} or later, it may be out of date. "
                "Add the special days of this year to it, or take calendar.file out of config.yaml"
            )
        return warnings

    def _holidays_of(self, year: int) -> Mapping[dt.date, str]:
        """NSE's holidays, also those on weekends, by date; none: not known."""
        if year not in self._holidays:
            try:
                import holidays

                # Without a language it takes the host's, and without `observed` it leaves out weekends.
                known = holidays.financial_holidays("XNSE", years=year, observed=False, language="en_US")
                self._holidays[year] = dict(known)
            except Exception as error:
                self._holidays[year] = {}
                if not self._library_failed:
                    log.warning("the holidays of NSE cannot be had; every weekday is captured", error=repr(error))
                self._library_failed = True
        return self._holidays[year]


def _special(usual: Span, source: str, entry: SpecialDay) -> Day:
    if entry.hours == "open":
        return Day((usual,), f"{source}: {entry.note or 'open'}", sure=True, special=False)
    hours = () if entry.hours == "closed" else entry.hours
    spans = tuple(span_of(entry.date, each) for each in hours)
    why = f"{source}: {entry.note or ', '.join(map(str, hours)) or 'closed'}"
    return Day(spans, why, sure=True, special=True)


def _is_estimate(holiday: str, of_its_year: Mapping[dt.date, str]) -> bool:
    """The library marks what the moon decides until NSE's list of the year is in it; Hindu dates move as well."""
    announced = not any(_ESTIMATED in each for each in of_its_year.values())
    return not announced and _FIXED.search(holiday) is None


def _read(path: Path) -> dict[tuple[dt.date, str], SpecialDay]:
    """The special days of a CSV file. Raises ConfigError."""
    try:
        # Spreadsheets write a byte order mark.
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != _COLUMNS:
                raise ConfigError(f"{path}: line 1: expected the names of the columns: {','.join(_COLUMNS)}")
            numbered = ((f"line {rows.line_num}", row) for row in rows if any(row))
            entries = [(line, _entry(row, f"{path}: {line}")) for line, row in numbered]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{path}: the calendar's file cannot be read: {reason}") from None
    except csv.Error as error:
        raise ConfigError(f"{path}: line {rows.line_num}: expected comma-separated values: {error}") from None
    try:
        return _by_exchange(entries)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _entry(row: list[str], place: str) -> SpecialDay:
    if len(row) != len(_COLUMNS):
        raise ConfigError(f"{place}: expected {len(_COLUMNS)} values ({','.join(_COLUMNS)}); got {len(row)}")
    date, exchanges, hours, note = (cell.strip() for cell in row)
    given = {"date": date, "exchanges": exchanges.split(), "hours": hours, "note": note}
    try:
        return SpecialDay.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ConfigError(f"{place}: {first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None
