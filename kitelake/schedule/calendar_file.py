"""The file that `calendar.file` of config.yaml may name: special days, or the exchange's own list of holidays.

It is either a CSV of special days with the columns date,exchanges,hours,note, or the list of trading holidays as NSE
offers it for download: columns `Sr. No`, `Date`, `Day` and `Description`, dates such as 26-Jan-2026.
"""

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from kitelake.config import SpecialDay, by_exchange
from kitelake.errors import ConfigError
from storage.files import open_regular

_COLUMNS: Final = ["date", "exchanges", "hours", "note"]
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LISTED_DATE: Final = re.compile(r"(\d{1,2})-([A-Za-z]{3})[a-z]*-(\d{4})", re.ASCII)


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
