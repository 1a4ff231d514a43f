"""What the user knows of the calendar better than we do: `calendar` in config.yaml, and the file that it may name.

The file is either a CSV of special days with the columns date,exchanges,hours,note, or the exchange's own list of
trading holidays as NSE offers it for download: columns `Sr. No`, `Date`, `Day` and `Description`, dates such as
26-Jan-2026.
"""

import csv
import datetime as dt
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from pydantic import BeforeValidator, Field, PlainValidator, ValidationError, model_validator

from kitelake.config.values import Section, path_of
from kitelake.errors import ConfigError
from storage.files import open_regular
from storage.market import ROUND_THE_CLOCK, SCHEDULED, Hours, hours_of

Exchange = Literal["NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX", "NCO", "NSEIX", "GLOBAL"]
EXCHANGES: Final = (*SCHEDULED, *ROUND_THE_CLOCK)
assert get_args(Exchange) == EXCHANGES

_COLUMNS: Final = ["date", "exchanges", "hours", "note"]
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LISTED_DATE: Final = re.compile(r"(\d{1,2})-([A-Za-z]{3})[a-z]*-(\d{4})", re.ASCII)
_EARLIEST: Final = dt.date(1990, 1, 1)


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
    raise ValueError(
        f"expected one or several of {', '.join(EXCHANGES)}; without any, {', '.join(SCHEDULED)} are meant"
    )


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
    """A day that differs from the usual: closed, open on a weekend, or trading at other hours."""

    date: Annotated[dt.date, PlainValidator(date_of)]
    exchanges: Annotated[tuple[str, ...], PlainValidator(_exchanges_of)] = Field(
        default=(), description="(): all that have sessions"
    )
    hours: Annotated[Literal["closed", "open"] | tuple[Hours, ...], PlainValidator(_special_hours_of)] = Field(
        description='"closed", "open" (the usual hours), or trading hours "HH:MM-HH:MM" in IST; several with spaces '
        "between"
    )
    note: str = Field(default="", description="what the day is, for the logs")


class UsualHours(NamedTuple):
    """Trading hours of an exchange from a date on."""

    since: dt.date
    hours: Hours


def _usual_hours_of(given: Any) -> tuple[UsualHours, ...]:
    """`"09:00-23:35"`, `{hours: "09:00-23:35", from: 2026-12-01}`, or a list of these; sorted."""
    entries = given if isinstance(given, list | tuple) and not isinstance(given, Hours | UsualHours) else [given]
    found = sorted(map(_one_usual, entries))
    if not found:
        raise ValueError('expected trading hours "HH:MM-HH:MM", {hours: "HH:MM-HH:MM", from: YYYY-MM-DD}, or a list')
    if len({one.since for one in found}) < len(found):
        raise ValueError("expected one entry from each date; here two begin on the same")
    return tuple(found)


def _one_usual(given: Any) -> UsualHours:
    if isinstance(given, UsualHours):
        return given
    if not isinstance(given, dict):
        return UsualHours(_EARLIEST, hours_of(given))
    if not given.keys() <= {"hours", "from"}:
        raise ValueError("expected the keys hours and from, and no other")
    return UsualHours(date_of(given["from"]) if "from" in given else _EARLIEST, hours_of(given.get("hours")))


class CalendarSection(Section):
    """The trading calendar, where it differs from what is built in."""

    special_days: tuple[SpecialDay, ...] = ()
    file: Annotated[Path, BeforeValidator(lambda given: path_of(given, "a file"))] | None = Field(
        default=None,
        description="a CSV of more special days: date,exchanges,hours,note; spaces between exchanges and between "
        "hours. Or NSE's own list of trading holidays, as it is downloaded",
    )
    always_open: bool = Field(default=False, description="the market never closes: a simulator, a replay")
    hours: Mapping[Exchange, Annotated[tuple[UsualHours, ...], PlainValidator(_usual_hours_of)]] = Field(
        default_factory=dict, description="the usual trading hours of an exchange, instead of the built-in ones"
    )

    @model_validator(mode="after")
    def _one_entry_each(self) -> Self:
        by_exchange((f"special_days[{index}]", entry) for index, entry in enumerate(self.special_days))
        return self

    def usual_hours(self, exchange: str, date: dt.date) -> Hours | None:
        """The trading hours that are given for that day; None: the built-in ones."""
        given = {str(name): entries for name, entries in self.hours.items()}.get(exchange, ())
        return next((one.hours for one in reversed(given) if one.since <= date), None)


def by_exchange(entries: Iterable[tuple[str, SpecialDay]]) -> dict[tuple[dt.date, str], SpecialDay]:
    """Entries by date and exchange. Raises ValueError, with their places, if two are of the same."""
    places: dict[tuple[dt.date, str], str] = {}
    found = {}
    for place, entry in entries:
        for exchange in entry.exchanges or SCHEDULED:
            key = entry.date, exchange
            if key in found:
                raise ValueError(
                    f"{places[key]} and {place} are both of {exchange} on {entry.date}; expected one entry for each "
                    "exchange and date (an entry without exchanges is of all)"
                )
            places[key], found[key] = place, entry
    return found


@dataclass(frozen=True)
class CalendarFile:
    """What a calendar's file says: special days by date and exchange, or holidays of NSE by their date."""

    special_days: Mapping[tuple[dt.date, str], SpecialDay] = field(default_factory=dict)
    holidays: Mapping[dt.date, str] = field(default_factory=dict)

    @property
    def last_year(self) -> int:
        """The last year of which it says something; 0 if it says nothing."""
        return max((date.year for date in (*(date for date, _ in self.special_days), *self.holidays)), default=0)


def read_calendar_file(path: Path) -> CalendarFile:
    """The special days or holidays of a CSV file. Raises ConfigError, which names the file and the line."""
    try:
        # Spreadsheets write a byte order mark.
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            numbered = [(f"line {rows.line_num}", row) for row in rows if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{path}: the calendar's file cannot be read: {reason}") from None
    except csv.Error as error:
        raise ConfigError(f"{path}: line {rows.line_num}: expected comma-separated values: {error}") from None
    names = [re.sub(r"[^a-z]", "", name.lower()) for name in header]  # NSE's end in a space and a line break
    if header != _COLUMNS and {"date", "description"} <= set(names):
        return CalendarFile(holidays=_holidays(path, numbered, names))
    if header != _COLUMNS:
        raise ConfigError(
            f"{path}: line 1: expected the names of the columns: {','.join(_COLUMNS)}; or NSE's own list of trading "
            "holidays, with Date and Description"
        )
    try:
        return CalendarFile(by_exchange([(line, _entry(row, f"{path}: {line}")) for line, row in numbered]))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _entry(row: Sequence[str], place: str) -> SpecialDay:
    if len(row) != len(_COLUMNS):
        raise ConfigError(f"{place}: expected {len(_COLUMNS)} values ({','.join(_COLUMNS)}); got {len(row)}")
    date, exchanges, hours, note = (cell.strip() for cell in row)
    given = {"date": date, "exchanges": exchanges.split(), "hours": hours, "note": note}
    try:
        return SpecialDay.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ConfigError(f"{place}: {first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from None


def _holidays(path: Path, rows: Iterable[tuple[str, Sequence[str]]], names: Sequence[str]) -> dict[dt.date, str]:
    date_column, description = names.index("date"), names.index("description")
    found: dict[dt.date, str] = {}
    for line, row in rows:
        text = row[date_column].strip() if len(row) > max(date_column, description) else ""
        match = _LISTED_DATE.fullmatch(text)
        month = match[2].lower() if match else ""
        try:
            if match is None or month not in _MONTHS:
                raise ValueError
            date = dt.date(int(match[3]), _MONTHS.index(month) + 1, int(match[1]))
        except ValueError:
            raise ConfigError(f"{path}: {line}: expected a date such as 26-Jan-2026 in the column Date") from None
        name = " ".join(row[description].split()) or "holiday"
        found[date] = f"{found[date]}; {name}" if date in found else name
    if not found:
        raise ConfigError(f"{path}: expected NSE's list of trading holidays, and it has no row")
    return found
