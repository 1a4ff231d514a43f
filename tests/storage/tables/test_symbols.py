"""What a token meant on a day."""

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import RowsError, TableError
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS
from storage.tables.symbols import SymbolBook, SymbolIndex, read_instruments, write_instruments
from storage.tables.table import LakeTable

MONDAY, TUESDAY, THURSDAY = (datetime.date(2026, 11, day) for day in (16, 17, 19))


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "my data")


def listing(**symbols: int) -> pa.Table:
    rows = [
        {"instrument_token": token, "symbol": f"NSE:{name}", "tradingsymbol": name} for name, token in symbols.items()
    ]
    return pa.Table.from_pylist(rows, schema=INSTRUMENTS.file_schema)


def names(index: SymbolIndex | None, *tokens: int) -> list[str | None]:
    assert index is not None
    found: list[str | None] = index.lookup(np.array(tokens, np.int64)).to_pylist()
    return found


class TestIndex:
    @settings(deadline=None)
    @given(
        known=st.dictionaries(st.integers(0, 30), st.text(max_size=3)),
        tokens=st.lists(st.integers(0, 40)),
    )
    def test_lookup(self, known: dict[int, str], tokens: list[int]) -> None:
        ordered = sorted(known)
        index = SymbolIndex(np.array(ordered, np.int64), pa.array([known[token] for token in ordered], pa.string()))
        found = index.lookup(np.array(tokens, np.int64))
        assert found.type == pa.dictionary(pa.int32(), pa.string())
        assert found.to_pylist() == [known.get(token) for token in tokens]
        assert set(found.dictionary.to_pylist()) <= {known[token] for token in tokens if token in known}

    def test_order_and_length_are_checked(self) -> None:
        with pytest.raises(ValueError, match="not sorted and unique"):
            SymbolIndex(np.array([2, 1], np.int64), pa.array(["a", "b"]))
        with pytest.raises(ValueError, match="not sorted and unique"):
            SymbolIndex(np.array([1, 1], np.int64), pa.array(["a", "b"]))
        with pytest.raises(ValueError, match="got 1 tokens and 2 symbols"):
            SymbolIndex(np.array([1], np.int64), pa.array(["a", "b"]))


class TestBook:
    def test_the_list_in_force_is_the_newest_that_is_not_later(self, layout: DataLayout) -> None:
        write_instruments(layout, MONDAY, listing(INFY=1, OLD=2))
        write_instruments(layout, THURSDAY, listing(INFY=1, NEW=2))
        book = SymbolBook(layout)
        assert names(book(MONDAY), 1, 2, 3) == ["NSE:INFY", "NSE:OLD", None]
        assert names(book(TUESDAY), 2) == ["NSE:OLD"]
        assert names(book(THURSDAY), 2) == ["NSE:NEW"]
        assert names(book(datetime.date(2030, 1, 1)), 2) == ["NSE:NEW"]
        assert book(MONDAY - datetime.timedelta(days=1)) is None
        assert book(TUESDAY) is book(MONDAY)

    def test_without_a_table_and_when_it_appears(self, layout: DataLayout) -> None:
        book = SymbolBook(layout)
        assert book(MONDAY) is None
        assert book.version == -1
        write_instruments(layout, MONDAY, listing(INFY=1))
        assert names(book(MONDAY), 1) == ["NSE:INFY"]
        before = book.version
        write_instruments(layout, MONDAY, listing(TCS=1))
        assert names(book(MONDAY), 1) == ["NSE:TCS"]
        assert book.version == before + 1

    def test_a_token_that_is_listed_twice(self, layout: DataLayout) -> None:
        write_instruments(layout, MONDAY, pa.concat_tables([listing(B=7, A=3), listing(C=7)]))
        assert names(SymbolBook(layout)(MONDAY), 3, 7) == ["NSE:A", "NSE:B"]


class TestStore:
    def test_reads_back_whole(self, layout: DataLayout) -> None:
        assert read_instruments(layout) is None
        assert write_instruments(layout, MONDAY, listing(INFY=1))
        assert write_instruments(layout, TUESDAY, listing(INFY=1, TCS=2))
        newest = read_instruments(layout)
        assert newest is not None
        assert newest.schema.equals(INSTRUMENTS.schema)
        assert newest.column("date").to_pylist() == [TUESDAY, TUESDAY]
        assert newest.select(INSTRUMENTS.file_schema.names).equals(listing(INFY=1, TCS=2))
        monday = read_instruments(layout, MONDAY)
        assert monday is not None
        assert monday.num_rows == 1
        assert read_instruments(layout, MONDAY - datetime.timedelta(days=1)) is None

    def test_the_same_list_again_changes_nothing(self, layout: DataLayout) -> None:
        rows = listing(INFY=1)
        dated = rows.add_column(0, "date", pa.array([MONDAY]))
        assert write_instruments(layout, MONDAY, rows)
        table = LakeTable(layout.table("instruments"), INSTRUMENTS).open()
        assert not write_instruments(layout, MONDAY, rows)
        assert not write_instruments(layout, MONDAY, dated.select(INSTRUMENTS.schema.names))
        assert table.snapshot().version == 1
        assert write_instruments(layout, MONDAY, listing(INFY=2))
        assert table.read().column("instrument_token").to_pylist() == [2]
        assert write_instruments(layout, MONDAY, rows)  # and back again
        assert table.read().column("instrument_token").to_pylist() == [1]

    def test_bad_rows_leave_the_good_list(self, layout: DataLayout) -> None:
        write_instruments(layout, MONDAY, listing(INFY=1))
        bad = listing(INFY=9)
        bad = bad.set_column(bad.schema.get_field_index("lot_size"), "lot_size", pa.array(["x"]))
        with pytest.raises(RowsError, match="got lot_size as string, expected int64"):
            write_instruments(layout, MONDAY, bad)
        assert names(SymbolBook(layout)(MONDAY), 1) == ["NSE:INFY"]

    def test_a_damaged_table(self, layout: DataLayout) -> None:
        write_instruments(layout, MONDAY, listing(INFY=1))
        (layout.table("instruments") / "_delta_log" / f"{0:020d}.json").write_bytes(b"{")
        with pytest.raises(TableError, match="cannot read its log"):
            SymbolBook(layout)(MONDAY)
