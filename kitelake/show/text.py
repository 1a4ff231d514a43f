"""Values as text. Times with a zone are shown in IST, whatever zone they are in."""

import datetime as dt
import json
from decimal import Decimal
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_DECIMALS: Final = 6
IST: Final = dt.timezone(dt.timedelta(hours=5, minutes=30), "IST")
IST_US: Final = 19_800_000_000
# Strings come from the broker: none of them may move the cursor or colour the terminal.
CONTROL: Final = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}

Cell = str | None


def readable(values: pa.ChunkedArray) -> list[Cell]:
    """The values as text to read, None for null. Numbers are exact, but for decimals behind the sixth."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        return times_text(values, short=True)
    if pa.types.is_floating(kind):
        return _floats(values.to_pylist())
    return [None if value is None else value_text(value).translate(CONTROL) for value in values.to_pylist()]


def _floats(values: list[float | None]) -> list[Cell]:
    """With as many decimals as the value that needs most, so that the points stand under one another."""
    digits = max((len(repr(v).partition(".")[2]) for v in values if v is not None and _is_plain(v)), default=1)
    digits = min(digits, MAX_DECIMALS)
    return [None if v is None else f"{v:.{digits}f}" if _is_plain(v) else f"{v:.{MAX_DECIMALS}g}" for v in values]


def _is_plain(value: float) -> bool:
    return value == 0 or 1e-4 <= abs(value) < 1e15


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def times_text(values: pa.ChunkedArray, *, short: bool) -> list[Cell]:
    """Times as text, those with a zone in IST: as ISO has it, or to read, without the part of a second none has."""
    zone = values.type.tz
    stamps = values.cast(pa.timestamp("us", zone)).cast(pa.int64()).combine_chunks()
    numbers: NDArray[np.int64] = stamps.fill_null(0).to_numpy(zero_copy_only=False) + (IST_US if zone else 0)
    unit: Literal["us", "ms", "s"] = "us"
    if short:
        unit = "us" if (numbers % 1_000).any() else "ms" if (numbers % 1_000_000).any() else "s"
    texts = np.datetime_as_string(numbers.view("datetime64[us]"), unit=unit).tolist()
    known = stamps.is_valid().to_pylist()
    if short:
        return [text.replace("T", " ") if there else None for text, there in zip(texts, known, strict=True)]
    offset = "+05:30" if zone else ""
    return [text + offset if there else None for text, there in zip(texts, known, strict=True)]


def value_text(value: object) -> str:
    """A decimal without exponent, a day or a time as ISO has it, bytes as hex, a list or a struct as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dt.datetime):
        return to_ist(value).isoformat(timespec="microseconds")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, default=value_text, ensure_ascii=False)
    return str(value)


def to_ist(time: dt.datetime) -> dt.datetime:
    return time if time.tzinfo is None else time.astimezone(IST)
