"""An exported DuckDB file, opened by plain DuckDB: rows, views and macros give what the lake gives."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import kitelake
from kitelake.lake import Lake
from queries.export import Choice, Export
from queries.history import time_range
from tests.support.captured import INFY, Captured, us_of
from tests.support.shared import made_once
from tests.support.two_days import DAYS, two_days

pytestmark = pytest.mark.slow

__all__ = ["two_days"]  # the fixture

DAY = DAYS[1]
QUERIES = (
    "FROM ticks",
    "FROM instruments",
    "FROM events",
    "SELECT symbol, received_at, bid, ask, mid, microprice FROM quotes",
    "SELECT count(*), sum(price * quantity) FROM depth",
    "FROM trades",
    f"FROM ticks('NSE:INFY', '{DAY} 10:00', '{DAY} 10:30')",
    f"FROM bars(['NSE:INFY', 'NSE:NIFTY 50'], width := '5 minutes', start := '{DAY}')",
    f"FROM trades('NSE:INFY', '{DAYS[0]}')",
    f"FROM latest(moment := '{DAY} 12:00')",
    f"FROM book('NSE:INFY', moment := '{DAY} 12:00')",
    f"FROM books(['NSE:INFY', 'NSE:RELIANCE'], moment := '{DAY} 12:00')",
    f"FROM futures('NIFTY', moment := '{DAY} 12:00')",
)


@pytest.fixture(scope="module")
def lake(two_days: Path) -> Iterator[Lake]:
    with kitelake.open(two_days) as opened:
        yield opened


@pytest.fixture(scope="module")
def file(lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def write(folder: Path) -> None:
        folder.mkdir()
        Export(lake, folder / "made.duckdb", "duckdb", Choice(time_range(None, None))).write()

    return made_once(tmp_path_factory, "exported duckdb", write) / "made.duckdb"


def in_order(rows: pa.Table) -> pa.Table:
    """By what tells rows apart: of ticks that is their stream and place in it."""
    names = ["stream", "seq"] if {"stream", "seq"} <= {*rows.column_names} else rows.column_names
    return rows.sort_by([(name, "ascending") for name in names]).combine_chunks()


@pytest.mark.parametrize("query", QUERIES)
def test_it_gives_what_the_lake_gives_in_any_zone(lake: Lake, file: Path, query: str) -> None:
    with duckdb.connect(str(file), read_only=True) as con:
        con.execute("SET TimeZone = 'America/New_York'")
        found = con.sql(query).to_arrow_table()
    expected = lake.sql(query).arrow()
    assert len(expected)
    assert in_order(found.cast(expected.schema)) == in_order(expected)


def test_what_was_captured_twice_and_of_a_replay(tmp_path: Path) -> None:
    """There ticks are judged by events, and their times are of another day."""
    with Captured(tmp_path / "data") as captured:
        captured.replayed("2026-11-20")
        captured.instruments()
        run = captured.run("18:00")
        lines = [run.line("asha"), run.line("ravi")]
        for at, line in enumerate(lines):
            line.begin(f"18:01:0{at}", INFY)
        past = us_of(dt.date(2026, 11, 20), "09:15:00")
        for step in range(20):
            for line in lines:
                at = us_of(captured.day, "18:02:00") + step * 30_000_000
                traded = past + step * 30_000_000
                line.full(at, INFY, 100 + step, volume=10 * step, traded=traded, stamped=traded)
        captured.commit()
    with kitelake.open(tmp_path / "data") as lake:
        assert Export(lake, tmp_path / "x", "duckdb", Choice(time_range(None, None))).write()["ticks"] == 20
        with duckdb.connect(str(tmp_path / "x"), read_only=True) as con:
            for query in ("FROM ticks", "FROM bars('NSE:INFY')", "FROM trades"):
                expected = lake.sql(query).arrow()
                assert len(expected) > 5
                assert in_order(con.sql(query).to_arrow_table().cast(expected.schema)) == in_order(expected)


def test_it_has_every_relation_and_macro_and_says_so(lake: Lake, file: Path) -> None:
    with duckdb.connect(str(file), read_only=True) as con:
        named = {name for (name,) in con.execute("SELECT table_name FROM information_schema.tables").fetchall()}
        macros = {
            name
            for (name,) in con.execute(
                "SELECT DISTINCT function_name FROM duckdb_functions() WHERE database_name = current_database() "
                "AND function_type = 'table_macro' AND NOT internal"
            ).fetchall()
        }
        ((text,),) = con.execute("SELECT text FROM about").fetchall()
        (comment,) = con.execute(
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'ticks' AND column_name = 'last_price'"
        ).fetchall()
    assert named == {*(relation.name for relation in lake.relations), "instruments", "events", "about"}
    assert macros == {macro.name for macro in lake.macros}
    assert all(f"`{macro.name}(…)`" in text for macro in lake.macros)
    assert comment == ("rupees; packet @4",)


def test_the_rows_are_in_it_and_it_can_be_attached(file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.db"
    moved.write_bytes(file.read_bytes())
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{moved}' AS other (READ_ONLY)")
        assert con.execute("SELECT count(*) > 0 FROM other.quotes").fetchall() == [(True,)]
        con.execute("USE other")
        assert con.execute(f"SELECT count(*) FROM book('NSE:INFY', moment := '{DAY} 12:00')").fetchall() == [(5,)]


def test_what_lacks_its_tables_or_columns_is_left_out(lake: Lake, tmp_path: Path) -> None:
    columns = ["date", "symbol", "received_at", "exchange", "stream", "seq"]
    when = time_range(f"{DAY} 10:00", f"{DAY} 10:05")
    Export(lake, tmp_path / "few", "duckdb", Choice(when, ["INFY"], columns, ["ticks"])).write()
    with duckdb.connect(str(tmp_path / "few"), read_only=True) as con:
        assert con.sql("FROM ticks('NSE:INFY')").columns == columns
        assert len(con.sql("FROM ticks('NSE:INFY')")) == 10
        ((text,),) = con.execute("SELECT text FROM about").fetchall()
    assert "- Views and macros: `dated_ticks`, `instrument_days`, `ticks(…)`\n" in text
