"""What the user knows of the calendar better than we do: the section `calendar` of config.yaml."""

import datetime as dt
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from kitelake.config.values import Section, path_of
from storage.market import ROUND_THE_CLOCK, SCHEDULED, Hours, hours_of

Exchange = Literal["NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX", "NCO", "NSEIX", "GLOBAL"]
EXCHANGES: Final = (*SCHEDULED, *ROUND_THE_CLOCK)
assert get_args(Exchange) == EXCHANGES

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
