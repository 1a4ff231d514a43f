"""The broker's instrument list: from CSV to the `instruments` table, and from names to tokens.

A token means something only together with a date, because tokens of expired derivatives are used again (Kite Connect
v3 docs): a list belongs to the day it was fetched for. Reading it never guesses. A value that may be missing becomes
null when it does not parse; a row without a token or a name, or of a derivative without an expiry, is dropped and
counted, and a list with many such rows, a wrong header or a token that means two things is refused whole, so that the
last good list stays in force.
"""

import codecs
import datetime
import difflib
import gzip
import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ingest.criteria import DERIVATIVES
from ingest.errors import InstrumentError
from storage.schema import INSTRUMENTS

MAX_BAD_SHARE: Final = 0.01
SHOWN: Final = 5
GZIP_MAGIC: Final = b"\x1f\x8b"

COLUMNS: Final = tuple(column.name for column in INSTRUMENTS.columns if column.name not in ("date", "symbol"))
REQUIRED: Final = ("instrument_token", "tradingsymbol", "instrument_type", "segment", "exchange")
MAX_TOKEN: Final = 2**32 - 1  # a packet has four bytes for it
_NUMBER: Final = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
_PATTERNS: Final = {
    pa.int64(): r"^[+-]?\d{1,18}$",
    pa.float64(): _NUMBER,
    pa.date32(): r"^\d{4}-\d{2}-\d{2}$",
}

log = logging.getLogger(__name__)


def parse_instruments(data: bytes, *, date: datetime.date) -> pa.Table:
    """The broker's CSV, plain or gzipped, as rows of `storage.schema.INSTRUMENTS` for the IST day `date`.

    Raises InstrumentError for bytes that are not such a list: not gzip or CSV, a column missing, no rows, a token
    that stands twice, or more than 1 % of the rows without a token, a symbol, a type, a segment or an exchange, or
    without the expiry that a derivative has.
    """
    raw, ragged = _read(data)
    columns = {name: _cast(raw[name], INSTRUMENTS.schema.field(name).type) for name in COLUMNS}
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
    bad = table.num_rows - rows.num_rows + ragged
    if bad > MAX_BAD_SHARE * (table.num_rows + ragged):
        raise InstrumentError(
            f"{bad:,} of the {table.num_rows + ragged:,} rows of the instrument list lack a token, a symbol, a type, "
            "a segment, an exchange or the expiry of a derivative, or have a wrong number of columns; at most "
            f"{MAX_BAD_SHARE:.0%} may"
        )
    if not rows.num_rows:
        raise InstrumentError("the instrument list has no rows")
    if bad:
        log.warning("%d of %d rows of the instrument list were dropped: not readable", bad, table.num_rows + ragged)
    _check_unique(rows["instrument_token"])
    return rows


def _read(data: bytes) -> tuple[pa.Table, int]:
    """The rows as strings, empty ones null, and how many were skipped because they had a wrong number of columns."""
    if data.startswith(GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InstrumentError(f"the instrument list is not whole gzip: {error}") from error
    data = data.removeprefix(codecs.BOM_UTF8)  # a spreadsheet has been at it
    if not data.strip():
        raise InstrumentError("the instrument list is empty")
    ragged = 0

    def skip(row: object) -> str:
        nonlocal ragged
        ragged += 1
        return "skip"

    try:
        header = [name.strip().strip('"') for name in data.decode().lstrip().partition("\n")[0].split(",")]
    except UnicodeDecodeError as error:
        raise InstrumentError(f"the instrument list is not UTF-8: byte {error.start} is not") from error
    if missing := [name for name in COLUMNS if header.count(name) != 1]:
        found = ", ".join(header)[:200]
        raise InstrumentError(f"the instrument list lacks {', '.join(missing)}; its columns are: {found}")
    try:
        table = pyarrow.csv.read_csv(
            pa.py_buffer(data.lstrip()),
            # One block: a file of this kind has some 10 MB, and rows are skipped in the order of the file.
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=header, skip_rows=1
            ),
            parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=skip),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        raise InstrumentError(f"the instrument list is not CSV: {str(error)[:200]}") from error
    return table, ragged


def _cast(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Texts as `kind`, null where they do not parse."""
    trimmed = pc.utf8_trim_whitespace(texts)
    if kind == pa.string():
        return pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    fits = pc.match_substring_regex(trimmed, _PATTERNS[kind])
    values = pc.if_else(fits, trimmed, None)
    if kind == pa.date32():
        few = pc.unique(values)  # thousands of rows share a day
        days = pc.strptime(few, "%Y-%m-%d", "s", error_is_null=True)
        # strptime takes the 30th of February for the 2nd of March: only what reads back the same is a day.
        days = pc.if_else(pc.equal(pc.strftime(days, "%Y-%m-%d"), few), days, None)
        return pc.cast(days.take(pc.index_in(values, few)), kind)
    return pc.cast(values, kind)


def _check_unique(tokens: pa.ChunkedArray) -> None:
    counts = pc.value_counts(tokens)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        shown = ", ".join(str(token) for token in twice[:SHOWN].to_pylist())
        raise InstrumentError(f"{len(twice):,} tokens stand more than once in the instrument list, as in {shown}")


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

    def __init__(self, table: pa.Table, *, on: datetime.date | None = None) -> None:
        """`on` is the day to ask about, where that is not the day of the list: what has expired by then is not near."""
        self.table = table
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
        other = Instruments(self.table, on=day)
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
