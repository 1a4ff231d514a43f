"""Columns of Arrow tables as arrays: times as microseconds, numbers as floats with NaN for null."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.clock import IST_OFFSET_NS, NS_PER_US

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_TIME: Final = np.iinfo(np.int64).min
IST_OFFSET_US: Final = IST_OFFSET_NS // NS_PER_US


def is_time(kind: pa.DataType) -> bool:
    """Whether values of the type are moments, or days."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether values of the type can be drawn to a scale."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def microseconds_of(column: pa.ChunkedArray) -> Ints:
    """Moments as a clock in IST shows them, in microseconds since 1970-01-01 00:00 of that clock; null has the least.

    Times without a zone, and days, are what they say.
    """
    kind = column.type
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    plain = column.cast(pa.timestamp("us", "UTC" if zoned else None), safe=False).cast(pa.int64())
    found: Ints = pc.fill_null(plain, NO_TIME).to_numpy()
    return np.where(found == NO_TIME, found, found + IST_OFFSET_US) if zoned else found


def numbers_of(column: pa.ChunkedArray) -> Floats:
    """Numbers, with NaN for null and for what is not finite."""
    found: Floats = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy()
    return np.where(np.isfinite(found), found, np.nan)


def values_of(numbers: Floats) -> list[float | None]:
    """The numbers one by one, None for NaN."""
    return [None if math.isnan(number) else number for number in numbers.tolist()]


def texts_of(column: pa.ChunkedArray) -> list[str]:
    """Texts, `?` for null."""
    return [str(value) for value in pc.fill_null(column.cast(pa.string()), "?").to_pylist()]


def parts_of(rows: pa.Table, *names: str) -> Iterator[tuple[tuple[str, ...], pa.Table]]:
    """The rows of each text, or each set of texts, in these columns, in the order in which they first come."""
    texts = [np.array(texts_of(rows.column(name)), str) for name in names]
    codes = [np.unique(each, return_inverse=True)[1] for each in texts]
    _, first, which = np.unique(np.stack(codes), axis=1, return_index=True, return_inverse=True)
    for part in np.argsort(first).tolist():
        key = tuple(str(each[first[part]]) for each in texts)
        yield key, rows.take(pa.array(np.flatnonzero(which == part)))
