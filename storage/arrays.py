"""Columns of numbers and texts between Arrow and NumPy, by their memory.

pyarrow's own ways (`pa.array`, `to_numpy`) import pandas wherever that is installed, which takes as long as
much else that a new process does for its first bars.
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


def numpy_of(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """A column of signed or floating numbers. Where there are nulls it is of floats, and they are NaN. Without nulls
    and in one piece nothing is copied, and it must not be written to. Raises KeyError for a column of anything else.
    """
    dtype = _DTYPES[column.type]
    if isinstance(column, pa.ChunkedArray):
        pieces = [numpy_of(chunk) for chunk in column.chunks]
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, dtype), *pieces])
    valid, values = column.buffers()
    if not len(column):
        return np.empty(0, dtype)
    found: NDArray[Any] = np.frombuffer(values, dtype, len(column), column.offset * np.dtype(dtype).itemsize)
    if column.null_count:
        bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
        there = bits[column.offset : column.offset + len(column)].view(np.bool_)
        found = np.where(there, found, np.float64(np.nan))
    return found


def arrow_of(values: NDArray[Any], missing: NDArray[np.bool_] | None, kind: pa.DataType) -> pa.Array:
    """The column of these values, of that type's width, null where they are `missing`. Nothing is copied if they lie
    one after the other."""
    bits = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def arrow_texts(texts: Sequence[str]) -> pa.Array:
    """The column of these texts."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
