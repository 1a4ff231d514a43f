"""The instrument list as text: from the broker's bytes to columns of strings, and from strings to values. Pure.

Bytes that are not UTF-8 stand in names of companies: a cell with such bytes is read as Latin-1, in which every byte is
a letter, and all the others as they are.
"""

import codecs
import gzip
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ingest.errors import InstrumentError

LINES_SHOWN: Final = 5
GZIP_MAGIC: Final = b"\x1f\x8b"

_NUMBER: Final = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$"
_WHOLE: Final = r"^[+-]?\d{1,18}(\.0*)?$"  # a spreadsheet writes 1594.0 where a column has gaps
_ISO_DAY: Final = r"^\d{4}-\d{2}-\d{2}$"
_OTHER_DAY: Final = r"^(\d{1,2}[-/. ](\d{1,2}|[A-Za-z]{3})[-/. ](\d{4}|\d{2})|\d{4}[/. ]\d{1,2}[/. ]\d{1,2})$"
_PATTERNS: Final = {pa.int64(): _WHOLE, pa.float64(): _NUMBER, pa.date32(): _ISO_DAY}


def read_rows(data: bytes, columns: Sequence[str], note: Callable[[str], object]) -> tuple[pa.Table, int]:
    """The rows as strings, empty ones null, and how many were skipped because they had a wrong number of columns.

    `data` is the CSV, plain or gzipped; it may have more columns than those that are asked for. `note` is told in words
    what was not as it should be. Raises InstrumentError for bytes that are not such a CSV.
    """
    if data.startswith(GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InstrumentError(f"the instrument list is not whole gzip: {error}") from error
    data = data.removeprefix(codecs.BOM_UTF8)  # a spreadsheet has been at it
    if not data.strip():
        raise InstrumentError("the instrument list is empty")
    data, mended = _as_utf8(data)
    ragged = 0

    def skip(row: object) -> str:
        nonlocal ragged
        ragged += 1
        return "skip"

    header = [name.strip().strip('"') for name in data.decode().lstrip().partition("\n")[0].split(",")]
    if missing := [name for name in columns if header.count(name) != 1]:
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
    if mended:
        lines = ", ".join(map(str, mended[:LINES_SHOWN])) + (", …" if len(mended) > LINES_SHOWN else "")
        note(
            f"{len(mended):,} of {table.num_rows + ragged + 1:,} lines of the instrument list are not UTF-8, and were "
            f"read as Latin-1: line {lines}"
        )
    return table, ragged


def cast(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
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
    values = pc.replace_substring_regex(values, r"^\+", "")  # which Arrow takes for no number
    if kind == pa.int64():
        return pc.cast(pc.replace_substring_regex(values, r"\.0*$", ""), kind)
    return pc.add(pc.cast(values, kind), 0.0)  # -0.0 is 0.0


def days_in_another_order(texts: pa.ChunkedArray) -> list[str]:
    """The different texts among these that are days, but are not written as YYYY-MM-DD: `25-11-2026`, `25/Nov/26`."""
    few = pc.utf8_trim_whitespace(pc.unique(texts))
    return list(few.filter(pc.match_substring_regex(few, _OTHER_DAY)).to_pylist())


def _as_utf8(data: bytes) -> tuple[bytes, list[int]]:
    """The same in UTF-8, and the numbers of the lines that were not."""
    try:
        data.decode()
    except UnicodeDecodeError:
        pass
    else:
        return data, []
    lines = data.split(b"\n")
    mended = []
    for number, line in enumerate(lines):
        cells = [_utf8_of(cell) for cell in line.split(b",")]
        if (whole := b",".join(cells)) != line:
            lines[number] = whole
            mended.append(number + 1)
    return b"\n".join(lines), mended


def _utf8_of(cell: bytes) -> bytes:
    try:
        cell.decode()
    except UnicodeDecodeError:
        return cell.decode("latin-1").encode()
    return cell
