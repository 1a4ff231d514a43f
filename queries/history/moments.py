"""Times as they are asked for: text, dates and datetimes, all of them read as IST unless they name a zone. Pure.

A bare date is its midnight, and alone, as the start of a range without a stop, the whole day. A range has its start and
not its stop. The same rules as SQL, for macros, are `SQL_START` and `SQL_STOP`.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from queries.errors import MomentError
from storage.clock import IST

Moment = str | dt.date | dt.datetime
"""A `datetime` is one of these, and so is a pandas `Timestamp`. Without a zone it is IST."""

# So that the day before or after a time is one, too.
_FIRST_YEAR: Final = 2
_LAST_YEAR: Final = 9998
_ONE_DAY: Final = dt.timedelta(days=1)
_ONE_US: Final = dt.timedelta(microseconds=1)
_WHOLE_DAY: Final = _ONE_DAY - _ONE_US
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EXPECTED: Final = "expected a date such as 2026-11-24, or a time such as 2026-11-24 09:15:00 (IST) or …T03:45:00Z"
_OFFSET: Final = "([0-9]) ?([zZ]|[+-][0-9]{2}(?::?[0-9]{2})?)$"
_WITHOUT_OFFSET: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9:.]+)?$"
"""How an offset ends a text, and a text that has none, for SQL."""


def moment_of(value: Moment, what: str) -> dt.datetime:
    """The moment, in IST. `what` is for errors. Raises MomentError."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            raise MomentError(f"{what}: got {value!r}, {_EXPECTED}") from None
    if not isinstance(value, dt.date):
        raise MomentError(f"{what}: got {type(value).__name__}, {_EXPECTED}")
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise MomentError(f"{what}: got {value}, expected a time of the years {_FIRST_YEAR} to {_LAST_YEAR}")
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=IST) if value.tzinfo is None else value.astimezone(IST)
    return dt.datetime.combine(value, dt.time(), IST)


def day_of(value: Moment, what: str) -> dt.date:
    """The IST day. Raises MomentError."""
    return moment_of(value, what).date()


def moments_of(value: Moment | Sequence[Moment], what: str) -> list[dt.datetime]:
    """One or several as of which something is asked, in the order that was given. Raises MomentError, also for none.

    A bare date is the whole day: its last microsecond, as of which everything of it is known.
    """
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not values:
        raise MomentError(f"{what}: got an empty list, {_EXPECTED}")
    return [moment_of(each, what) + (_WHOLE_DAY if is_bare_date(each) else dt.timedelta()) for each in values]


def is_bare_date(value: Moment) -> bool:
    """Whether it says a day and no time."""
    if isinstance(value, str):
        try:
            dt.date.fromisoformat(value.strip())
        except ValueError:
            return False
        return True
    return not isinstance(value, dt.datetime)


@dataclass(frozen=True)
class TimeRange:
    """From `start` up to `stop`, in IST; None where it has no such end."""

    start: dt.datetime | None
    stop: dt.datetime | None

    @property
    def first_day(self) -> dt.date | None:
        """The first day that it has a part of."""
        return None if self.start is None else self.start.date()

    @property
    def last_day(self) -> dt.date | None:
        """The last one."""
        return None if self.stop is None else (self.stop - _ONE_US).date()

    @property
    def start_us(self) -> int | None:
        """The start in microseconds since the epoch."""
        return None if self.start is None else (self.start - _EPOCH) // _ONE_US

    @property
    def stop_us(self) -> int | None:
        """The stop."""
        return None if self.stop is None else (self.stop - _EPOCH) // _ONE_US

    def days(self, among: Sequence[dt.date]) -> list[dt.date]:
        """Those of these days that it has a part of."""
        first, last = self.first_day or dt.date.min, self.last_day or dt.date.max
        return [day for day in among if first <= day <= last]

    def where(self, column: str = "received_at") -> str:
        """The SQL condition for a column of instants; with the range's days, so that files are skipped."""
        parts = []
        if self.start is not None:
            parts += [f"date >= DATE '{self.first_day}'", f"{column} >= {sql_moment(self.start)}"]
        if self.stop is not None:
            parts += [f"date <= DATE '{self.last_day}'", f"{column} < {sql_moment(self.stop)}"]
        return " AND ".join(parts) or "true"

    def where_us(self, column: str) -> str:
        """The same for a column of microseconds since the epoch."""
        parts = [] if self.start_us is None else [f"{column} >= {self.start_us}"]
        parts += [] if self.stop_us is None else [f"{column} < {self.stop_us}"]
        return " AND ".join(parts) or "true"


def time_range(start: Moment | None, stop: Moment | None) -> TimeRange:
    """The range. Raises MomentError for what is no time, and if it stops before it starts."""
    begin = None if start is None else moment_of(start, "start")
    end = None if stop is None else moment_of(stop, "stop")
    if begin is not None and end is None and start is not None and is_bare_date(start):
        end = begin + _ONE_DAY
    if begin is not None and end is not None and end < begin:
        raise MomentError(f"start and stop: got {begin} and {end}, expected a stop that is not before the start")
    return TimeRange(begin, end)


def sql_moment(moment: dt.datetime) -> str:
    """An instant as SQL has it, whatever zone a connection shows times in."""
    return f"TIMESTAMPTZ '{moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(' ')}+00'"


def sql_parameter(name: str) -> str:
    """The same rules for a macro's parameter of any type: the SQL expression of its instant, null for null."""
    text = f"trim({name}::VARCHAR)"
    return (
        f"CASE WHEN length({text}) > 10 AND regexp_matches({text}, '{_OFFSET}')"
        f" THEN upper(regexp_replace({text}, '{_OFFSET}', '\\1\\2'))::TIMESTAMPTZ"
        f" WHEN {text} IS NULL OR regexp_matches({text}, '{_WITHOUT_OFFSET}')"
        f" THEN timezone('Asia/Kolkata', {text}::TIMESTAMP)"
        # DuckDB would take more, as the name of a zone, which it does not heed.
        f" ELSE error('{name}: got ''' || {text} || ''', {_EXPECTED}') END"
    )


SQL_START: Final = sql_parameter("start")
"""The start of a macro's range."""
SQL_STOP: Final = (
    f"CASE WHEN stop IS NULL AND length(trim(start::VARCHAR)) = 10 THEN {SQL_START} + INTERVAL 1 DAY"
    f" ELSE {sql_parameter('stop')} END"
)
"""Its stop: a start that is a bare date has the whole day."""

SQL_FIRST_DAY: Final = f"timezone('Asia/Kolkata', {SQL_START})::DATE"
SQL_LAST_DAY: Final = f"timezone('Asia/Kolkata', {SQL_STOP} - INTERVAL 1 MICROSECOND)::DATE"
"""The days that it has a part of."""

SQL_MOMENT: Final = (
    f"CASE WHEN moment IS NULL THEN now() ELSE {sql_parameter('moment')}"
    " + CASE WHEN length(trim(moment::VARCHAR)) = 10 THEN INTERVAL 1 DAY - INTERVAL 1 MICROSECOND"
    " ELSE INTERVAL 0 DAY END END"
)
"""A macro's moment, as `moments_of` has it; now, without one."""


# A range without an end has an infinite one: a comparison is said once, however long the expression of the end is.
SQL_FROM_DAY: Final = f"coalesce({SQL_FIRST_DAY}, DATE '-infinity')"
SQL_UPTO_DAY: Final = f"coalesce({SQL_LAST_DAY}, DATE 'infinity')"
"""The days that it has a part of, of all there are."""


def sql_range(column: str = "received_at") -> str:
    """The SQL condition of a macro with the parameters `start` and `stop`, as `TimeRange.where`."""
    return (
        f"(date >= {SQL_FROM_DAY} AND {column} >= coalesce({SQL_START}, TIMESTAMPTZ '-infinity')"
        f" AND date <= {SQL_UPTO_DAY} AND {column} < coalesce({SQL_STOP}, TIMESTAMPTZ 'infinity'))"
    )


def sql_range_us(column: str) -> str:
    """The same for a column of microseconds since the epoch, as `TimeRange.where_us`."""
    least, most = -(1 << 63), (1 << 63) - 1
    return (
        f"({column} >= coalesce(epoch_us({SQL_START}), {least}) AND {column} < coalesce(epoch_us({SQL_STOP}), {most}))"
    )
