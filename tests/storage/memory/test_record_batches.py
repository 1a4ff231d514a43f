"""Batches in one piece of memory are what Arrow makes of the same values, column by column."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.memory import KEPT_TEXTS, BatchForm, texts
from storage.schema import INSTRUMENTS, TICKS

NUMBERS = ["last_price", "oi", "received_at", "volume_traded"]
ROWS = st.integers(1, 200)


@pytest.mark.parametrize("schema", [TICKS.schema, INSTRUMENTS.schema], ids=["ticks", "instruments"])
def test_what_is_not_filled_is_null(schema: pa.Schema) -> None:
    for rows in (1, 8, 9, 100):
        batch = BatchForm(schema, []).begin(rows, {}, 0).finish()
        batch.validate(full=True)
        assert batch.equals(pa.RecordBatch.from_pylist(rows * [{}], schema))


@given(ROWS, st.data())
def test_filled_columns_are_those_of_arrow(rows: int, data: st.DataObject) -> None:
    ints = st.lists(st.integers(-(2**62), 2**62), min_size=rows, max_size=rows)
    masks = st.lists(st.booleans(), min_size=rows, max_size=rows)
    values = {name: np.array(data.draw(ints), np.int64) for name in NUMBERS}
    several, one = np.array(data.draw(masks)), np.array(data.draw(masks))
    valid = {"last_price": np.ones(rows, np.bool_), "oi": several, "received_at": several, "volume_traded": one}
    texts = data.draw(st.lists(st.text(max_size=5), min_size=rows, max_size=rows))
    days = np.array(data.draw(st.lists(st.integers(0, 20_000), min_size=rows, max_size=rows)), np.int32)
    account = pa.array(texts, pa.string())
    offsets = np.frombuffer(account.buffers()[1], np.int32, rows + 1)
    letters = np.frombuffer("".join(texts).encode(), np.uint8)

    open_batch = BatchForm(TICKS.schema, NUMBERS).begin(rows, {"account": (offsets, letters), "date": (days,)}, 2)
    for row, column in zip(open_batch.numbers, values.values(), strict=True):
        row[:rows] = column
    open_batch.set_valid(0, 1, valid["last_price"])
    open_batch.set_valid(1, 3, several)
    open_batch.set_valid(3, 4, one)
    batch = open_batch.finish()

    batch.validate(full=True)
    assert batch.schema == TICKS.schema
    for name in NUMBERS:
        kind = TICKS.schema.field(name).type
        expected = pa.array(values[name], mask=~valid[name]).view(kind)
        assert batch.column(name).view(pa.int64()).equals(expected.view(pa.int64()))
        assert batch.column(name).null_count == expected.null_count
    assert batch.column("account").equals(account)
    assert batch.column("date").equals(pa.array(days).view(pa.date32()))
    for name in set(TICKS.schema.names) - {*NUMBERS, "account", "date"}:
        assert batch.column(name).null_count == rows
    assert all(buffer.address % 64 == 0 for column in batch.columns for buffer in column.buffers() if buffer)


@pytest.mark.parametrize("count", [1, 7, KEPT_TEXTS, KEPT_TEXTS + 1])
@pytest.mark.parametrize("names", [["NSE"], ["", "NSE", "čtyři"]], ids=str)
def test_texts_are_those_of_arrow(names: list[str], count: int) -> None:
    alike = [np.full(count, place) for place in range(len(names))]
    for codes in (*alike, np.arange(count) % len(names)):
        offsets, letters = texts(codes, names)
        found = pa.StringArray.from_buffers(count, pa.py_buffer(offsets.tobytes()), pa.py_buffer(letters.tobytes()))
        assert len(offsets) == count + 1
        assert len(letters) == offsets[-1]
        assert found.equals(pa.array([names[code] for code in codes.tolist()], pa.string()))
