"""Values as text. Times with a zone are shown in IST, whatever zone they are in."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.clock import IST

MAX_DECIMALS: Final = 6
IST_SECONDS: Final = 19_800
PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
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
    objects = [value for chunk in values.chunks for value in plain_objects(chunk)]
    return [None if value is None else value_text(value).translate(CONTROL) for value in objects]


def plain_objects(values: pa.Array) -> list[Any]:
    """The values as Python objects. Days and times are text: SQL has some that Python has not, such as infinity."""
    kind = values.type
    if not _has_times(kind):
        return list(values.to_pylist())
    if pa.types.is_timestamp(kind):
        return times_text(pa.chunked_array([values]), short=False)
    if pa.types.is_date(kind):
        return _days(values)
    if pa.types.is_time(kind) and kind.unit == "ns":
        return list(values.cast(pa.string()).to_pylist())
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        rows = zip(*map(plain_objects, values.flatten()), strict=True)
        known = values.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, known, strict=True)]
    if pa.types.is_map(kind):
        entries = [None if not row.is_valid else plain_objects(row.values) for row in values]
        return [None if row is None else [tuple(entry.values()) for entry in row] for row in entries]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return [None if not row.is_valid else plain_objects(row.values) for row in values]
    return list(values.to_pylist())


def _has_times(kind: pa.DataType) -> bool:
    inner = (kind.field(i).type for i in range(kind.num_fields))
    return bool(pa.types.is_temporal(kind)) or any(map(_has_times, inner))


def _days(values: pa.Array) -> list[Cell]:
    numbers = values.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
    endless = _endless(numbers)
    texts = np.datetime_as_string(np.where(endless == "", numbers, 0).astype("datetime64[D]"), unit="D")
    return _known(np.where(endless == "", texts, endless), values)


def _endless(numbers: NDArray[Any]) -> NDArray[Any]:
    """What DuckDB has for infinity as text, and "" for every other value."""
    most = np.iinfo(numbers.dtype).max
    return np.where(numbers == most, "infinity", np.where(numbers == -most, "-infinity", ""))


def _known(texts: NDArray[Any], values: pa.Array) -> list[Cell]:
    return [text if there else None for text, there in zip(texts.tolist(), values.is_valid().to_pylist(), strict=True)]


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
    kind = values.type
    per_second = PER_SECOND[kind.unit]
    stamps = values.cast(pa.int64()).combine_chunks()
    numbers: NDArray[np.int64] = stamps.fill_null(0).to_numpy(zero_copy_only=False)
    endless = _endless(numbers)
    finite = endless == ""
    numbers = np.where(finite, numbers, 0) + (IST_SECONDS * per_second if kind.tz else 0)
    needed = next(
        unit for unit, per in PER_SECOND.items() if per >= per_second or not (numbers % (per_second // per)).any()
    )
    unit = needed if short or needed == "ns" else "us"
    texts = np.datetime_as_string(numbers.view(f"datetime64[{kind.unit}]"), unit=unit)  # type: ignore[call-overload]
    if kind.tz and not short:
        texts = np.char.add(texts, "+05:30")
    found = _known(np.where(finite, texts, endless), stamps)
    return [text and text.replace("T", " ") for text in found] if short else found


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
    if isinstance(value, pa.MonthDayNano):
        return _interval(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, default=value_text, ensure_ascii=False)
    return str(value)


def _interval(value: pa.MonthDayNano) -> str:
    """As SQL has it: `1 year 2 days -00:00:03.5`."""
    years, months = divmod(abs(value.months), 12)
    sign = -1 if value.months < 0 else 1
    counts = [(sign * years, "year"), (sign * months, "month"), (value.days, "day")]
    words = [f"{count} {name}{'' if abs(count) == 1 else 's'}" for count, name in counts if count]
    if value.nanoseconds or not words:
        seconds, nanoseconds = divmod(abs(value.nanoseconds), 1_000_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{nanoseconds:09}".rstrip("0").rstrip(
            "."
        )
        words.append(f"{'-' * (value.nanoseconds < 0)}{clock}")
    return " ".join(words)


def to_ist(time: dt.datetime) -> dt.datetime:
    return time if time.tzinfo is None else time.astimezone(IST)
