"""The views: what is committed and what is not, each row once, in the columns of the schema."""

import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from queries.lake.lake import SqlLake
from storage import schema
from storage.layout import DataLayout
from storage.tables.table import LakeTable
from tests.support.lake import CRUDE, INFY, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import TICKS, rows

pytestmark = pytest.mark.slow  # tables are made for each test


def test_have_the_columns_of_the_schema_even_where_nothing_is(tmp_path: Path) -> None:
    DataLayout(tmp_path).journal.mkdir()
    with SqlLake(tmp_path, ToyDecoder()) as lake:
        assert lake.tables == tuple(sorted([*schema.TABLES, "ticks_all", "quotes", "depth"]))
        for name in lake.tables:
            assert lake.sql(f"select * from {name}").arrow().num_rows == 0
        for name, spec in schema.TABLES.items():
            names = lake.sql(f"select * from {name}").arrow().schema.names
            assert names == spec.schema.names + ["source_since"] * (name == "ticks")


def test_have_the_types_of_the_schema(lake: SqlLake, half: ToyWriter) -> None:
    for name, spec in schema.TABLES.items():
        got = lake.sql(f"select * from {name}").arrow().schema
        for field in spec.schema:
            shown = pa.timestamp("us", "Asia/Kolkata") if field.type == schema.TIMESTAMP else field.type
            assert got.field(field.name).type == shown, (name, field.name)


def test_join_what_is_committed_and_what_is_not(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    assert rows(lake, TICKS) == feed.ticks
    assert rows(lake, "select stream, event from events") == feed.events
    assert rows(lake, "select data from quarantine") == [(b"what?",)]


def test_see_each_call_anew(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    for _ in range(3):
        feed.tick((INFY, 1))
        feed.flush()
        assert rows(lake, TICKS) == feed.ticks
        feed.roll()
        half.commit_all()
        half.remove_committed()
        assert rows(lake, TICKS) == feed.ticks


def test_see_tables_that_are_created_later(tmp_path: Path, lake: SqlLake, feed: Feed) -> None:
    feed.tick((INFY, 1))
    feed.flush()
    assert rows(lake, "select count(*) from ticks") == [(1,)]
    feed.roll()
    ToyWriter(tmp_path).commit_all()
    assert rows(lake, TICKS) == feed.ticks


def test_show_equal_order_updates_once_a_day(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    feed.order("sold")
    feed.flush()
    query = "select date::varchar, order_id from orders order by all"
    expected = [("2026-11-23", "bought"), ("2026-11-24", "bought"), ("2026-11-24", "sold")]
    assert rows(lake, query) == expected
    feed.roll()
    feed.order("sold")
    feed.flush()
    half.commit_all()  # the table has "sold" now, and so has the tail
    assert rows(lake, query) == expected


def test_are_listed_and_described(lake: SqlLake, half: ToyWriter) -> None:
    assert rows(lake, "show tables") == [(name,) for name in lake.tables]
    assert [row[0] for row in rows(lake, "describe ticks_all")] == schema.TICKS.schema.names
    assert len(rows(lake, "summarize events;")) == len(schema.EVENTS.columns)


def test_skip_the_files_of_other_days_and_exchanges(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    feed.roll()
    half.commit_all()
    plan = str(rows(lake, "explain analyze select sum(last_price) from ticks")[0][1])
    assert "Total Files Read: 6" in plan
    where = "date = '2026-11-24' and exchange in ('NSE', 'MCX')"
    plan = str(rows(lake, f"explain analyze select sum(last_price) from ticks where {where}")[0][1])
    assert "Total Files Read: 2" in plan
    assert rows(lake, f"select count(*) from ticks where {where}") == [(2,)]


def test_use_the_files_that_the_table_names_and_no_others(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    table = LakeTable(half.layout.table("ticks"), schema.TICKS).open()
    stray = Path(table.snapshot().files[0])
    (stray.parent / "stray.parquet").write_bytes(stray.read_bytes())
    assert rows(lake, TICKS) == feed.ticks


def test_symbols_come_from_the_instrument_list_in_both_parts(tmp_path: Path, lake: SqlLake, feed: Feed) -> None:
    from storage.tables.symbols import SymbolBook, write_instruments

    listed = pa.Table.from_pylist(
        [{"instrument_token": INFY, "symbol": "NSE:INFY", "tradingsymbol": "INFY", "exchange": "NSE"}],
        schema=schema.INSTRUMENTS.file_schema,
    )
    feed.tick((INFY, 1))
    feed.roll()
    feed.tick((INFY, 2), (CRUDE, 3))
    feed.flush()
    assert rows(lake, "select distinct symbol from ticks") == [(None,)]
    write_instruments(DataLayout(tmp_path), datetime.date(2026, 11, 23), listed)
    ToyWriter(tmp_path, symbols=SymbolBook(DataLayout(tmp_path))).commit_all()
    query = "select symbol, count(*) from ticks group by 1 order by 1"
    assert rows(lake, query) == [("NSE:INFY", 2), (None, 1)]
    query = "select i.tradingsymbol from ticks join instruments i using (date, instrument_token)"
    assert rows(lake, query) == [("INFY",)] * 2
