"""The broker's historical candles in whatever form a person has them, as one Arrow table.

- A frame: pandas (the time as a column or the index), Polars, Arrow, or a list of dicts as the official client gives;
- a CSV file with a line of names, by its path;
- the broker's answer, `{"data": {"candles": [[time, open, high, low, close, volume, oi], …]}}`: as text, dict or path.

Columns go by their names, in large or small letters: date, time, timestamp or datetime; open, high, low, close; volume;
and oi, if there is one. Times are IST unless they name a zone; a candle is named by its beginning.
"""

import csv
import datetime as dt
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from queries.errors import CandlesError, MomentError
from queries.history import moment_of
from storage.clock import IST
from storage.schema import TIMESTAMP

CANDLES: Final = pa.schema(
    [
        ("time", TIMESTAMP),
        ("open", pa.float64()),
        ("high", pa.float64()),
        ("low", pa.float64()),
        ("close", pa.float64()),
        ("volume", pa.int64()),
        ("oi", pa.int64()),
    ]
)
_FIELDS: Final = CANDLES.names
_NEEDED: Final = 6
"""oi may be missing."""
_TIMES: Final = ("time", "date", "timestamp", "datetime", "__index_level_0__")
_EXPECTED: Final = (
    "expected a frame, a list of dicts, the path of a CSV file, or the broker's JSON "
    '{"data": {"candles": [[time, open, high, low, close, volume, oi], …]}}'
)

Candles = Any
"""See above; a frame is whatever Arrow can read."""


def read_candles(candles: Candles, day: dt.date) -> pa.Table:
    """The candles of that day, by time. Raises CandlesError, which says what was got and expected."""
    rows = _parsed(candles)
    found = [row for row in rows if row["time"].date() == day]
    if not found:
        first, last = (each(row["time"] for row in rows).date() for each in (min, max))
        raise CandlesError(f"candles: got candles from {first} to {last}, expected some of {day}, which is compared")
    return _table(found)


def all_candles(candles: Candles) -> pa.Table:
    """The candles of all days, by time. Raises CandlesError."""
    return _table(_parsed(candles))


def _parsed(candles: Candles) -> list[dict[str, Any]]:
    rows = [_row(number, values) for number, values in enumerate(_rows(candles), 1)]
    if not rows:
        raise CandlesError(f"candles: got none, {_EXPECTED}")
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    twice = [time for time, count in Counter(row["time"] for row in rows).items() if count > 1]
    if twice:
        raise CandlesError(f"candles: got {twice[0]} several times, expected each time once, of one instrument")
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["time"]), schema=CANDLES)


def width_of_candles(candles: pa.Table) -> dt.timedelta:
    """The shortest time between two; a day for one alone at midnight. Raises CandlesError if one alone does not say."""
    times: list[dt.datetime] = candles.column("time").to_pylist()
    if len(times) > 1:
        return min(later - earlier for earlier, later in itertools.pairwise(times))
    if times[0].astimezone(IST).time() == dt.time():
        return dt.timedelta(days=1)
    raise CandlesError("candles: got one candle, which does not say how long it is: expected `width`, such as 1m")


def _rows(candles: Candles) -> Sequence[Sequence[Any]]:
    """Of each candle its values, in the order of `CANDLES`."""
    if isinstance(candles, Path) or (isinstance(candles, str) and not candles.lstrip().startswith(("{", "["))):
        return _of_file(Path(candles))
    if isinstance(candles, str | bytes):
        return _of_json(candles, "candles")
    if isinstance(candles, Mapping) and ("data" in candles or "candles" in candles or "status" in candles):
        return _of_answer(candles, "candles")
    if isinstance(candles, Sequence):
        return _of_list(candles, "candles")
    try:
        table = pa.table(candles)
    except (TypeError, ValueError, pa.ArrowException):
        raise CandlesError(f"candles: got {type(candles).__name__}, {_EXPECTED}") from None
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            try:
                times = table.column(place).cast(pa.timestamp("us", field.type.tz))
            except pa.ArrowInvalid as error:
                raise CandlesError(f"candles, {field.name}: {error}; expected times of whole microseconds") from None
            table = table.set_column(place, field.name, times)
    return _of_columns(
        table.column_names, list(zip(*(each.to_pylist() for each in table.columns), strict=True)), "candles"
    )


def _of_file(path: Path) -> Sequence[Sequence[Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise CandlesError(f"candles: {path}: cannot be read: {reason}; {_EXPECTED}") from None
    if text.lstrip().startswith(("{", "[")):
        return _of_json(text, str(path))
    names, *lines = list(csv.reader(text.splitlines())) or [[]]
    return _of_columns(names, [line for line in lines if line], str(path))


def _of_json(text: str | bytes, where: str) -> Sequence[Sequence[Any]]:
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise CandlesError(f"{where}: got text that is no JSON ({error}), {_EXPECTED}") from None
    return _of_list(answer, where) if isinstance(answer, list) else _of_answer(answer, where)


def _of_answer(answer: Any, where: str) -> Sequence[Sequence[Any]]:
    if isinstance(answer, Mapping) and answer.get("status") == "error":
        raise CandlesError(f"{where}: got an error of the broker: {answer.get('message')}")
    inner = answer.get("data", answer) if isinstance(answer, Mapping) else None
    found = inner.get("candles") if isinstance(inner, Mapping) else None
    if not isinstance(found, Sequence) or isinstance(found, str):
        keys = ", ".join(map(str, answer)) if isinstance(answer, Mapping) else type(answer).__name__
        raise CandlesError(f"{where}: got JSON with {keys}, {_EXPECTED}")
    return _of_list(found, where)


def _of_list(found: Sequence[Any], where: str) -> Sequence[Sequence[Any]]:
    if found and all(isinstance(each, Mapping) for each in found):
        names = list(found[0])
        return _of_columns(names, [[each.get(name) for name in names] for each in found], where)
    for number, each in enumerate(found, 1):
        if not isinstance(each, Sequence) or isinstance(each, str) or len(each) not in (_NEEDED, len(_FIELDS)):
            said = f"{len(each)} values" if isinstance(each, Sequence) and not isinstance(each, str) else repr(each)
            raise CandlesError(f"{where}, candle {number}: got {said}, expected {', '.join(_FIELDS)}")
    return found


def _of_columns(names: Sequence[str], rows: Sequence[Sequence[Any]], where: str) -> Sequence[Sequence[Any]]:
    places = {name.strip().lower(): place for place, name in enumerate(names)}
    time = next((name for name in _TIMES if name in places), None)
    missing = [name for name in _FIELDS[1:_NEEDED] if name not in places] + (["time"] if time is None else [])
    if missing:
        had = ", ".join(map(str, names)) or "none"
        raise CandlesError(f"{where}: got the columns {had}, expected also {', '.join(missing)}")
    order = [places[str(time)], *(places[name] for name in _FIELDS[1:] if name in places)]
    for number, row in enumerate(rows, 1):
        if len(row) <= max(order):
            raise CandlesError(f"{where}, candle {number}: got {len(row)} values, expected {len(names)}")
    return [[row[place] for place in order] for row in rows]


def _row(number: int, values: Sequence[Any]) -> dict[str, Any]:
    time, *rest = values
    try:
        row: dict[str, Any] = {"time": moment_of(time, f"candle {number}")}
    except MomentError as error:
        raise CandlesError(str(error)) from None
    for name, value in itertools.zip_longest(_FIELDS[1:], rest):
        if name == "oi" and value in (None, ""):
            row[name] = None
            continue
        try:
            number_of = float(value)
            if not math.isfinite(number_of) or (name in ("volume", "oi") and number_of != int(number_of)):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            kind = "a whole number" if name in ("volume", "oi") else "a price in rupees"
            raise CandlesError(f"candle {number}, {name}: got {value!r}, expected {kind}") from None
        row[name] = int(number_of) if name in ("volume", "oi") else number_of
    return row
