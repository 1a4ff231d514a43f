"""Lists of instrument names from outside of config.yaml, as a file has them or an address on the web answers with.

Such a list is UTF-8 text in one of two forms. Lines that are blank or begin with `#` or `sep=` are skipped in both:

- CSV with a header, which has a column `tradingsymbol` or `symbol` and may have columns `exchange` and `series`, in any
  case. So are NSE's index lists (`Company Name,Industry,Symbol,Series,ISIN Code`) and Kite Connect's instrument list.
  What else is in it may be of another encoding.
- One name a line, which may end with a `#` comment.

A name without an exchange gets that of its row, or else NSE. A number alone is an instrument token. A row that says a
series of NSE, such as EQ or BE, names a share of that series: see `ingest.instruments.listing.Share`.

What is read may be anything, and hold a key: texts name the line only.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ingest.instruments import Share
from kitelake.errors import ListFileError
from storage.files import open_regular

MAX_BYTES: Final = 10_000_000
MAX_NAMES: Final = 100_000
SYMBOL_COLUMNS: Final = ("tradingsymbol", "symbol")
DEFAULT_EXCHANGE: Final = "NSE"

_EXPECTED: Final = "expected UTF-8 text: CSV with a column symbol or tradingsymbol, or one name a line"
_NAME: Final = re.compile(r"""([A-Za-z]+:)?[^\s:;,<>{}\[\]"#][^:;,<>{}\[\]"#]{0,63}""")
_SERIES: Final = re.compile("[A-Z0-9]{2}")
_UNDECODED: Final = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8


def read_names(data: bytes, what: str) -> list[str]:
    """The names of a list, each as `EXCHANGE:SYMBOL` or a token's digits, in order and once. `what` is for errors.

    Raises ListFileError if it is not such a list, names nothing, or is over 100,000 names or 10 MB.
    """
    if len(data) > MAX_BYTES:
        raise ListFileError(f"{what}: it has more than {MAX_BYTES // 1_000_000} MB, expected at most as much")
    text = data.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")  # what is no name may be Latin-1
    lines = ["" if line.lstrip().startswith(("#", "sep=")) else line for line in io.StringIO(text, newline="")]
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("<"):
        raise ListFileError(f"{what}: this is a web page; {_EXPECTED}")
    has_column = any(cell.strip('" ').lower() in SYMBOL_COLUMNS for cell in first.split(","))
    is_csv = has_column or "," in first.partition("#")[0]
    names: dict[str, None] = {}
    for line, exchange, name, series in _csv_rows(lines, what) if is_csv else _plain_rows(lines, what):
        full = _full_name(exchange, name, series)
        if _UNDECODED.search(full):
            raise ListFileError(f"{what}, line {line}: this is not UTF-8; {_EXPECTED}")
        if not full.isprintable() or _NAME.fullmatch(full) is None:
            hint = "; commas separate columns" if re.search("[;\t|]", full) else ""
            raise ListFileError(
                f"{what}, line {line}: expected a name such as NSE:INFY, or a token such as 408065{hint}"
            )
        names[full] = None
        if len(names) > MAX_NAMES:
            raise ListFileError(f"{what}, line {line}: expected at most {MAX_NAMES:,} names, and here is one more")
    if not names:
        raise ListFileError(f"{what}: it names no instrument; {_EXPECTED}")
    return list(names)


def _full_name(exchange: str, name: str, series: str) -> str:
    if name.isascii() and name.isdigit():
        return name
    full = name if ":" in name else f"{exchange or DEFAULT_EXCHANGE}:{name}"
    series = series.upper()
    if not full.upper().startswith("NSE:") or _SERIES.fullmatch(series) is None:
        return full
    return Share(full if series == "EQ" or full.upper().endswith(f"-{series}") else f"{full}-{series}")


def read_list_file(path: Path) -> list[str]:
    """The names in a file. Raises ListFileError if it cannot be read or is not a list of names."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ListFileError(f"{path}: cannot be read: {error.strerror}") from None
    return read_names(data, str(path))


def _csv_rows(lines: Sequence[str], what: str) -> Iterator[tuple[int, str, str, str]]:
    """Number of the line, exchange, name and series of each row; empty where the list has no such column."""
    # strict: a quote that is never closed would swallow what follows it without a word
    reader = csv.reader(lines, strict=True)
    try:
        rows = [(reader.line_num, cells) for row in reader if any(cells := [cell.strip() for cell in row])]
    except csv.Error:
        raise ListFileError(f"{what}, line {reader.line_num}: this is not CSV, look for a single quote mark") from None
    if not rows:  # commas alone
        return
    header_line, header = rows[0]
    columns = [cell.lower() for cell in header]
    column = next((columns.index(name) for name in SYMBOL_COLUMNS if name in columns), None)
    if column is None:
        found = _UNDECODED.sub("?", ", ".join(header)[:200])
        raise ListFileError(f"{what}, line {header_line}: the columns are {found}; {_EXPECTED}")
    exchange, series = (columns.index(name) if name in columns else None for name in ("exchange", "series"))
    for line, cells in rows[1:]:
        if len(cells) <= max(column, exchange or 0, series or 0):
            raise ListFileError(f"{what}, line {line}: got {len(cells)} columns, expected {len(header)}")
        yield line, "" if exchange is None else cells[exchange], cells[column], "" if series is None else cells[series]


def _plain_rows(lines: Sequence[str], what: str) -> Iterator[tuple[int, str, str, str]]:
    """The same for one name a line."""
    for line, text in enumerate(lines, start=1):
        name = re.sub('^"(.*)"$', r"\1", text.partition("#")[0].strip()).strip()
        if "," in name:
            raise ListFileError(f"{what}, line {line}: expected one name, without commas, as in the lines before")
        if name:
            yield line, "", name, ""
