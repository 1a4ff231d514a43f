"""Rows that contradict one another or the journal."""

import itertools
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.layout import DataLayout
from storage.tables.symbols import write_instruments
from storage.verify.rows import SeqSet
from tests.support.lists import listed_on
from tests.support.verifying import (
    DAYS,
    STREAM,
    add_one,
    change_column,
    entries,
    found,
    only,
    rewrite,
    table,
    with_symbols,
)

pytestmark = pytest.mark.slow


def test_ticks_that_are_there_twice(layout: DataLayout) -> None:
    rewrite(layout, "ticks", lambda rows: rows, keep=True)
    texts = [finding.text for finding in found(layout)]
    assert "1 seq are there twice" in texts


@pytest.mark.parametrize("name", ["orders", "events", "quarantine"])
def test_records_that_are_there_twice(layout: DataLayout, name: str) -> None:
    rewrite(layout, name, lambda rows: rows, keep=True)
    assert any("rows are there twice by" in finding.text for finding in found(layout))


def test_ticks_that_are_missing(three_days: DataLayout) -> None:
    entry = entries(three_days, "ticks", DAYS[1])[0]
    assert entry.rows == 1
    table(three_days, "ticks").commit([], remove=[entry])
    for findings in (found(three_days), found(three_days, DAYS[1])):
        missing = only([finding for finding in findings if finding.kind == "sequence"])
        assert (missing.text, missing.stream, missing.date, missing.rows) == (
            "seq 9 to 9 are missing",
            STREAM,
            DAYS[1],
            1,
        )
        assert missing.repairable


def test_the_last_ticks_of_a_stream(three_days: DataLayout) -> None:
    for entry in entries(three_days, "ticks", DAYS[2]):
        table(three_days, "ticks").commit([], remove=[entry])
    missing = only([finding for finding in found(three_days) if finding.kind == "sequence"])
    assert missing.text == "seq 16 to 23 are missing"


def test_a_day_in_the_middle_is_no_retention(three_days: DataLayout) -> None:
    table(three_days, "ticks").commit([], remove=entries(three_days, "ticks", DAYS[1]))
    missing = only([finding for finding in found(three_days) if finding.kind == "sequence"])
    assert missing.text == "seq 8 to 15 are missing"


@pytest.mark.parametrize("column", ["last_price", "account", "connection", "received_at"])
def test_ticks_that_the_journal_does_not_give(layout: DataLayout, column: str) -> None:
    def other(values: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.binary_join_element_wise(values, "x", "") if column == "account" else add_one(values)

    rewrite(layout, "ticks", lambda rows: change_column(rows, column, other))
    finding = only(found(layout))
    assert finding.text == f"segment 0: got other values than the journal gives in {column}"
    assert (finding.kind, finding.date, finding.repairable) == ("rows", DAYS[0], True)


def test_the_columns_of_large_row_groups_one_after_the_other(layout: DataLayout) -> None:
    rewrite(layout, "ticks", lambda rows: change_column(rows, "last_price", add_one))
    with patch("storage.verify.files.SMALL_VALUES", 0):
        finding = only(found(layout))
    assert finding.text == "segment 0: got other values than the journal gives in last_price"


def test_symbols_are_not_compared(layout: DataLayout) -> None:
    write_instruments(layout, DAYS[0], listed_on(DAYS[0]))
    rewrite(layout, "ticks", with_symbols)
    assert not found(layout)


@pytest.mark.parametrize("name", ["orders", "events", "quarantine"])
def test_records_that_the_journal_does_not_give(layout: DataLayout, name: str) -> None:
    def other(values: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.add(values, 1)

    rewrite(layout, name, lambda rows: change_column(rows, "connection", other))
    assert "others than the journal gives" in only(found(layout)).text


@pytest.mark.parametrize("name", ["orders", "events", "quarantine"])
def test_records_that_are_missing(layout: DataLayout, name: str) -> None:
    rewrite(layout, name, lambda rows: rows.slice(1))
    finding = found(layout)[-1]  # an order that came twice is missing in both segments
    assert "segment 0: 1 rows are missing" in finding.text
    assert finding.table == name


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 80), max_size=30), max_size=4), st.integers(0, 80), st.integers(0, 30))
def test_a_sequence_knows_what_is_there_and_what_is_not(batches: list[list[int]], first: int, more: int) -> None:
    ordinals = [*range(16, 32), *itertools.chain(*batches)]
    there = set(ordinals)
    with patch("storage.verify.rows.CHUNK", 16):
        sequence = SeqSet()
        sequence.add(np.arange(16, 32))  # a full chunk among others
        for batch in batches:
            sequence.add(np.array(batch, np.int64))
        missing = [n for low, high in sequence.missing(first, first + more) for n in range(low, high + 1)]
    assert sequence.repeated == len(ordinals) - len(there)
    assert (sequence.low, sequence.high) == (min(there), max(there))
    assert missing == [n for n in range(first, first + more) if n not in there]
