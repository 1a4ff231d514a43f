"""Columns between Arrow and NumPy: as pyarrow's own ways have them."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.memory import arrow_flags, arrow_of, arrow_texts, flags_of, missing_of, numpy_of

KINDS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64())


@given(
    kind=st.sampled_from(KINDS),
    chunks=st.lists(st.lists(st.none() | st.integers(-128, 127), max_size=20), max_size=4),
    begin=st.integers(0, 10),
    count=st.integers(0, 60),
)
def test_numbers_are_those_of_pyarrow(
    kind: pa.DataType, chunks: list[list[int | None]], begin: int, count: int
) -> None:
    column = pa.chunked_array([pa.array(chunk, kind) for chunk in chunks], kind).slice(begin, count)
    for part in (column, *column.chunks):
        found, expected = numpy_of(part), part.to_pandas().to_numpy()
        assert np.array_equal(found, expected, equal_nan=True)
        assert (found.dtype.kind == "f") == (kind in KINDS[4:] or part.null_count > 0)


@given(
    chunks=st.lists(st.lists(st.none() | st.booleans(), max_size=20), max_size=4),
    begin=st.integers(0, 20),
    count=st.integers(0, 60),
)
def test_booleans_are_those_of_pyarrow(chunks: list[list[bool | None]], begin: int, count: int) -> None:
    column = pa.chunked_array([pa.array(chunk, pa.bool_()) for chunk in chunks], pa.bool_()).slice(begin, count)
    assert flags_of(column).tolist() == column.fill_null(False).to_pylist()
    for part in column.chunks:
        assert flags_of(part).tolist() == part.fill_null(False).to_pylist()
        assert missing_of(part).tolist() == part.is_null().to_pylist()
        made = arrow_flags(flags_of(part), missing_of(part))
        made.validate(full=True)
        assert made.equals(part)


@pytest.mark.parametrize("values", [["a", None, "b"], [None, dt.date(2026, 11, 24)], [1.5, None], [], [None] * 9])
def test_what_is_missing_is_that_of_pyarrow(values: list[object]) -> None:
    column = pa.array(values).dictionary_encode()
    for part in (pa.array(values), column, column.slice(1)):
        assert missing_of(part).tolist() == part.is_null().to_pylist()


def test_what_has_no_numbers_is_refused() -> None:
    with pytest.raises(KeyError):
        numpy_of(pa.array(["a"]))


def test_arrays_are_those_of_pyarrow() -> None:
    values, missing = np.arange(20), np.arange(20) % 3 == 0
    assert arrow_of(values, None, pa.int64()).equals(pa.array(values))
    assert arrow_of(values, missing, pa.int64()).equals(pa.array(values, mask=missing))
    assert arrow_of(values[::2], missing[::2], pa.int64()).equals(pa.array(values[::2], mask=missing[::2]))
    days = arrow_of(np.array([0, 1], np.int32), None, pa.date32())
    assert days.to_pylist() == [dt.date(1970, 1, 1), dt.date(1970, 1, 2)]
    for texts in ([], ["NSE"], ["", "données", "NSE", "100 % & more"]):
        assert arrow_texts(texts).equals(pa.array(texts, pa.string()))
        arrow_texts(texts).validate(full=True)
