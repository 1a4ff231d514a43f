"""Columns of numbers, booleans and texts between Arrow and NumPy, by their memory.

pyarrow's own ways (`pa.array`, `to_numpy`, `fill_null`) import pandas wherever that is installed, which takes as long
as much else that a new process does for its first bars.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_DTYPES: Final[dict[pa.DataType, type[np.generic]]] = {
    pa.int8(): np.int8,
    pa.int16(): np.int16,
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.float32(): np.float32,
    pa.float64(): np.float64,
}


def numpy_of(column: pa.Array | pa.ChunkedArray, null: float = np.nan) -> NDArray[Any]:
    """A column of signed or floating numbers, with `null` for null: where it is NaN, and there are nulls, the column is
    of floats. Without nulls and in one piece nothing is copied, and it must not be written to. Raises KeyError for a
    column of anything else.
    """
    dtype = _DTYPES[column.type]
    if isinstance(column, pa.ChunkedArray):
        pieces = [numpy_of(chunk, null) for chunk in column.chunks]
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, dtype), *pieces])
    values = column.buffers()[1]
    if not len(column):
        return np.empty(0, dtype)
    found: NDArray[Any] = np.frombuffer(values, dtype, len(column), column.offset * np.dtype(dtype).itemsize)
    if column.null_count:
        found = np.where(missing_of(column), np.float64(null) if np.isnan(null) else found.dtype.type(null), found)
    return found


def flags_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """A column of booleans; null is false."""
    if isinstance(column, pa.ChunkedArray):
        return np.concatenate([np.empty(0, np.bool_), *map(flags_of, column.chunks)])
    return _bits(column, 1) & ~missing_of(column) if column.null_count else _bits(column, 1)


def missing_of(column: pa.Array) -> NDArray[np.bool_]:
    """Where a column of any flat type is null."""
    if pa.types.is_null(column.type):
        return np.ones(len(column), np.bool_)
    return ~_bits(column, 0) if column.null_count else np.zeros(len(column), np.bool_)


def _bits(column: pa.Array, buffer: int) -> NDArray[np.bool_]:
    """Those of one of its buffers."""
    begin, end = column.offset, column.offset + len(column)
    if begin == end:
        return np.empty(0, np.bool_)
    some = np.frombuffer(column.buffers()[buffer], np.uint8)[begin // 8 : -(-end // 8)]
    return np.unpackbits(some, bitorder="little")[begin % 8 :][: len(column)].view(np.bool_)


def are_all(flags: NDArray[np.bool_]) -> bool:
    """Whether all of them are true. Of few, `flags.all()` takes most of its time in Python."""
    return b"\0" not in flags.tobytes()


def are_alike(values: NDArray[Any]) -> bool:
    """Whether all of one or more values are the same; NaN is not the same as NaN."""
    return are_all(values == values[0])


def arrow_of(values: NDArray[Any], missing: NDArray[np.bool_] | None, kind: pa.DataType) -> pa.Array:
    """The column of these values, of that type's width, null where they are `missing`. Nothing is copied if they lie
    one after the other."""
    bits = None if missing is None else _packed(~missing)
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def arrow_flags(values: NDArray[np.bool_], missing: NDArray[np.bool_]) -> pa.Array:
    """The column of these booleans, null where they are `missing`."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [_packed(~missing), _packed(values)])


def _packed(flags: NDArray[np.bool_]) -> pa.Buffer:
    """As Arrow has them: the reverse of `_bits`."""
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def arrow_texts(texts: Sequence[str]) -> pa.Array:
    """The column of these texts."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
