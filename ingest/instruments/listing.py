"""The broker's instrument list: from CSV to the `instruments` table, and from names to tokens.

A token means something only together with a date, because tokens of expired derivatives are used again (Kite Connect
v3 docs): a list belongs to the day it was fetched for. Reading it never guesses, and a flaw costs what it stands in:

- A value that may be missing becomes null when it does not parse.
- A row without a token or a name, or of a derivative without an expiry, is dropped.
- Rows that say the same of a token count once. Of a token of which rows say different things no row is taken.

All of these are counted and said. A list with many such rows, with a wrong header, or whose expiries are all written in
another order than YYYY-MM-DD, is refused whole, so that the last good list stays in force.
"""

import datetime
import difflib
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ingest.errors import InstrumentError
from ingest.instruments.criteria import DERIVATIVES
from ingest.instruments.csv_rows import cast, days_in_another_order, read_rows
from ingest.settings import MAX_TOKEN
from storage.schema import INSTRUMENTS

SHOWN: Final = 5
MAX_BAD_SHARE: Final = 0.01
FEW_ROWS: Final = 20
"""So many rows that contradict each other cost no list, however short it is."""

COLUMNS: Final = tuple(column.name for column in INSTRUMENTS.columns if column.name not in ("date", "symbol"))
REQUIRED: Final = ("instrument_token", "tradingsymbol", "instrument_type", "segment", "exchange")

SHARE_SERIES: Final = ("EQ", "BE", "BZ", "SM", "ST", "SZ")
"""The series of fully paid shares between which NSE moves a share: rolling settlement and trade for trade, of the main
board and of small companies (NSE, legend of series, nseindia.com/market-data/legend-of-series, read in November 2026).
"""

log = logging.getLogger(__name__)


class Share(str):
    """A security of NSE's cash market by the symbol and series of a list's row, `NSE:ABCLTD` or `NSE:ABCLTD-BE`: the
    broker's list names those of series EQ by the symbol alone, and all others with the series. It is another series'
    once the exchange has moved it.
    """

    __slots__ = ()


def parse_instruments(data: bytes, *, date: datetime.date, note: Callable[[str], object] = log.warning) -> pa.Table:
    """The broker's CSV, plain or gzipped, as rows of `storage.schema.INSTRUMENTS` for the IST day `date`, each token
    once. `note` is told in words of each flaw that the list has.

    Raises InstrumentError for bytes that are not such a list: not gzip or CSV, a column missing, no rows; no expiry in
    the order YYYY-MM-DD, and several in another; more than 1 % of the rows without a token, a symbol, a type, a segment
    or an exchange, or without the expiry that a derivative has; or as many, and more than 20, that contradict others.
    """
    raw, ragged = read_rows(data, COLUMNS, note)
    columns = {name: cast(raw[name], INSTRUMENTS.schema.field(name).type) for name in COLUMNS}
    tokens = columns["instrument_token"]
    possible = pc.and_(pc.greater(tokens, 0), pc.less_equal(tokens, MAX_TOKEN))
    columns["instrument_token"] = pc.if_else(possible, tokens, None)
    columns["symbol"] = pc.binary_join_element_wise(columns["exchange"], columns["tradingsymbol"], ":")
    columns["date"] = pa.repeat(pa.scalar(date, pa.date32()), raw.num_rows)
    table = pa.table([columns[name] for name in INSTRUMENTS.schema.names], INSTRUMENTS.schema)
    good = pc.is_valid(table["symbol"])
    for name in REQUIRED:
        good = pc.and_(good, pc.is_valid(table[name]))
    expires = pc.is_in(table["instrument_type"], pa.array(DERIVATIVES))
    good = pc.and_(good, pc.or_(pc.invert(expires), pc.is_valid(table["expiry"])))
    rows = table.filter(good)
    bad, total = table.num_rows - rows.num_rows + ragged, table.num_rows + ragged
    other_order = days_in_another_order(raw["expiry"])
    dates = f"got {other_order[0]} as an expiry, expected YYYY-MM-DD" if other_order else ""
    if len(other_order) > 1 and table["expiry"].null_count == table.num_rows:
        raise InstrumentError(f"the expiries of the instrument list are in another order: {dates}")
    if bad > MAX_BAD_SHARE * total:
        raise InstrumentError(
            f"{bad:,} of the {total:,} rows of the instrument list lack a token, a symbol, a type, "
            "a segment, an exchange or the expiry of a derivative, or have a wrong number of columns; at most "
            f"{MAX_BAD_SHARE:.0%} may" + (f" ({dates})" if dates else "")
        )
    if bad:
        why = f"not readable ({dates})" if dates else "not readable"
        note(f"{bad:,} of {total:,} rows of the instrument list were dropped: {why}")
    rows = _each_once(rows, note)
    if not rows.num_rows:
        raise InstrumentError("the instrument list has no rows")
    return rows


def _each_once(rows: pa.Table, note: Callable[[str], object]) -> pa.Table:
    """The rows without those that say the same as an earlier one, and without all of a token that contradict it."""
    several = _values_of_several(rows["instrument_token"])
    if not len(several):
        return rows
    numbered = rows.append_column("row", pa.array(range(rows.num_rows), pa.int64()))
    of_several = pc.is_in(rows["instrument_token"], several)
    first = numbered.filter(of_several).group_by(rows.schema.names, use_threads=False).aggregate([("row", "min")])
    repeats = pc.and_not(of_several, pc.is_in(numbered["row"], first["row_min"]))
    if (repeated := rows.filter(repeats)).num_rows:
        shown = ", ".join(repeated["symbol"][:SHOWN].to_pylist()) + (", …" if repeated.num_rows > SHOWN else "")
        note(
            f"{repeated.num_rows:,} of {rows.num_rows:,} rows of the instrument list repeat others, and count once: "
            f"{shown}"
        )
    different = _values_of_several(first["instrument_token"])
    contradicts = pc.is_in(rows["instrument_token"], different)
    if len(different):
        against = rows.filter(contradicts)
        shown = "; ".join(_contradiction(against, token) for token in different[:SHOWN].to_pylist())
        more = f"; and {len(different) - SHOWN:,} more" if len(different) > SHOWN else ""
        total = pc.count_distinct(rows["instrument_token"]).as_py()
        text = f"of {total:,} tokens of the instrument list have rows that contradict each other: {shown}{more}"
        if against.num_rows > max(FEW_ROWS, MAX_BAD_SHARE * rows.num_rows):
            raise InstrumentError(f"{len(different):,} {text}; expected one row a token")
        note(f"{len(different):,} {text}; none of these rows is taken")
    return rows.filter(pc.invert(pc.or_(repeats, contradicts)))


def _values_of_several(values: pa.ChunkedArray) -> pa.Array:
    counts = pc.value_counts(values)
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")


def _contradiction(rows: pa.Table, token: int) -> str:
    """`408065 (NSE:INFY, NSE:TCS: tradingsymbol, name)`: what the token is said to mean, and where the rows differ."""
    of_token = rows.filter(pc.equal(rows["instrument_token"], token))
    symbols = ", ".join(pc.unique(of_token["symbol"]).to_pylist())
    differ = ", ".join(name for name in COLUMNS if len(pc.unique(of_token[name])) > 1)
    return f"{token} ({symbols}: {differ})"


def with_near(unknown: Sequence[str], near: Callable[[str], Sequence[str]]) -> str:
    """`NSE:INFI (did you mean NSE:INFY?); NSE:X`: the first few of them with what `near` finds, the rest counted."""
    shown = [(name, near(name)) for name in unknown[:SHOWN]]
    texts = [f"{name} (did you mean {', '.join(alike)}?)" if alike else name for name, alike in shown]
    if len(unknown) > SHOWN:
        texts.append(f"and {len(unknown) - SHOWN:,} more")
    return "; ".join(texts)


class Instruments:
    """An instrument list to ask: which token is `NSE:INFY`, and what is that token's name.

    `table` has the schema of `storage.schema.INSTRUMENTS`, for one day.
    """

    def __init__(self, table: pa.Table, *, on: datetime.date | None = None, notes: Sequence[str] = ()) -> None:
        """`on` is the day to ask about, where that is not the day of the list: what has expired by then is not near.

        `notes` are the flaws of the list, in words: see `parse_instruments`.
        """
        self.table = table
        self.notes = tuple(notes)
        self._on = on

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, token: object) -> bool:
        return token in self._symbols

    def __repr__(self) -> str:
        return f"Instruments({len(self):,} of {self.date})"

    @cached_property
    def date(self) -> datetime.date | None:
        """The IST day of the list; None for an empty one."""
        day: datetime.date | None = pc.max(self.table["date"]).as_py()
        return day

    @property
    def on(self) -> datetime.date | None:
        """The IST day that is asked about."""
        return self._on or self.date

    def as_of(self, day: datetime.date) -> "Instruments":
        """The same list, asked about another day, such as that of a plan, when the day's own list did not come."""
        other = Instruments(self.table, on=day, notes=self.notes)
        cached = ("date", "_symbols", "_tokens")
        other.__dict__.update({name: self.__dict__[name] for name in cached if name in self.__dict__})
        return other

    @cached_property
    def _symbols(self) -> dict[int, str]:
        return dict(zip(self.table["instrument_token"].to_pylist(), self.table["symbol"].to_pylist(), strict=True))

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {symbol: token for token, symbol in reversed(self._symbols.items())}  # the first of equal names

    def symbol(self, token: int) -> str | None:
        """`NSE:INFY`, or None for a token that is not in the list."""
        return self._symbols.get(token)

    def token(self, name: str | int) -> int | None:
        """The token of `NSE:INFY`, of 408065 or of "408065", or None if it is not in the list."""
        if isinstance(name, str):
            text = name.strip()
            found = self._tokens.get(text)
            if found is None and ":" in text:
                found = self._tokens.get(text.upper())
            if found is not None or not (text.isascii() and text.isdigit()):
                return found
            name = int(text)
        return name if name in self._symbols else None

    def in_another_series(self, share: Share) -> str | None:
        """The symbol that a share has here if it is of another series than `share` says; None if it is of none."""
        symbol, _, series = share.upper().rpartition("-")
        if series not in SHARE_SERIES:
            symbol = share.upper()
        others = (symbol if each == "EQ" else f"{symbol}-{each}" for each in SHARE_SERIES)
        return next((other for other in others if other in self._tokens), None)

    def resolve(self, names: Iterable[str | int]) -> list[int]:
        """The tokens of names such as `NSE:INFY`, `NSE:NIFTY 50`, or of tokens themselves (408065, "408065"), in order.

        Raises InstrumentError that lists all that are not in the list, with near matches.
        """
        tokens: list[int] = []
        unknown: list[str] = []
        for name in names:
            token = self.token(name)
            if token is None:
                unknown.append(str(name))
            else:
                tokens.append(token)
        if unknown:
            raise InstrumentError(f"not in the instrument list of {self.date}: {with_near(unknown, self.near)}")
        return tokens

    def near(self, name: str, limit: int = 3) -> list[str]:
        """Symbols that look like `name`, the nearest first. Without an exchange, all exchanges are looked at."""
        wanted = name.strip().upper()
        exchange, colon, symbol = wanted.rpartition(":")
        table = self.table
        if colon and pc.any(pc.equal(table["exchange"], exchange)).as_py():
            table = table.filter(pc.equal(table["exchange"], exchange))
        # difflib is slow: show it only symbols that begin alike.
        for letters in (6, 4, 2, 1):
            if not symbol[:letters]:
                break
            alike = table.filter(pc.starts_with(table["tradingsymbol"], symbol[:letters]))
            names = {
                row["tradingsymbol"]: row["symbol"]
                for row in alike.select(["tradingsymbol", "symbol"])[:2000].to_pylist()
            }
            if close := difflib.get_close_matches(symbol, names, limit, 0.6):
                return [names[match] for match in close]
        return []
