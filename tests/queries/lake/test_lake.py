"""What a query sees and what it is given back, over a small lake that is partly committed and partly in the journal."""

import datetime
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pytest

from queries.errors import MissingLibraryError, NoLakeError, QueryError
from queries.lake.lake import Lake
from storage import schema
from storage.errors import DataFolderError
from storage.layout import DataLayout
from storage.tables.table import LakeTable
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder, ToyWriter

STREAM = "20261123T034500-aaaaaa"
TICKS = "select stream, seq, instrument_token, last_price from ticks order by all"


def rows(lake: Lake, query: str, params: object = None) -> list[tuple[object, ...]]:
    table = lake.sql(query, params).arrow()  # type: ignore[arg-type]
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    with Feed(tmp_path, STREAM) as feed:
        yield feed


@pytest.fixture
def lake(tmp_path: Path, feed: Feed) -> Iterator[Lake]:
    with Lake(tmp_path, ToyDecoder()) as lake:
        yield lake


@pytest.fixture
def half(tmp_path: Path, feed: Feed) -> ToyWriter:
    """Six ticks on two days, an event and two orders: the first half committed."""
    writer = ToyWriter(tmp_path)
    feed.tick((INFY, 150_000), (NIFTY_FUT, 2_600_005))
    feed.tick((CRUDE, 500_000))
    feed.event("connected")
    feed.order("bought")
    feed.roll()
    writer.commit_all()
    feed.now_ns += DAY_NS
    feed.tick((INFY, 150_005), (NIFTY_FUT, 2_600_010), (CRUDE, 500_100))
    feed.order("bought")
    feed.order("sold")
    feed.junk(b"what?")
    feed.flush()
    return writer


class TestViews:
    def test_have_the_columns_of_the_schema_even_where_nothing_is(self, tmp_path: Path) -> None:
        DataLayout(tmp_path).journal.mkdir()
        with Lake(tmp_path, ToyDecoder()) as lake:
            assert lake.tables == tuple(schema.TABLES)
            for name, spec in schema.TABLES.items():
                table = lake.sql(f"select * from {name}").arrow()
                assert table.num_rows == 0
                assert table.schema.names == spec.schema.names

    def test_have_the_types_of_the_schema(self, lake: Lake, half: ToyWriter) -> None:
        for name, spec in schema.TABLES.items():
            got = lake.sql(f"select * from {name}").arrow().schema
            for field in spec.schema:
                shown = pa.timestamp("us", "Asia/Kolkata") if field.type == schema.TIMESTAMP else field.type
                assert got.field(field.name).type == shown, (name, field.name)

    def test_join_what_is_committed_and_what_is_not(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        assert rows(lake, TICKS) == feed.ticks
        assert rows(lake, "select stream, event from events") == feed.events
        assert rows(lake, "select data from quarantine") == [(b"what?",)]

    def test_see_each_call_anew(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        for _ in range(3):
            feed.tick((INFY, 1))
            feed.flush()
            assert rows(lake, TICKS) == feed.ticks
            feed.roll()
            half.commit_all()
            half.remove_committed()
            assert rows(lake, TICKS) == feed.ticks

    def test_see_tables_that_are_created_later(self, tmp_path: Path, lake: Lake, feed: Feed) -> None:
        feed.tick((INFY, 1))
        feed.flush()
        assert rows(lake, "select count(*) from ticks") == [(1,)]
        feed.roll()
        ToyWriter(tmp_path).commit_all()
        assert rows(lake, TICKS) == feed.ticks

    def test_show_equal_order_updates_once_a_day(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
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

    def test_are_listed_and_described(self, lake: Lake, half: ToyWriter) -> None:
        assert rows(lake, "show tables") == [(name,) for name in sorted(schema.TABLES)]
        assert [row[0] for row in rows(lake, "describe ticks")] == schema.TICKS.schema.names
        assert len(rows(lake, "summarize events;")) == len(schema.EVENTS.columns)

    def test_skip_the_files_of_other_days_and_exchanges(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        feed.roll()
        half.commit_all()
        plan = str(rows(lake, "explain analyze select sum(last_price) from ticks")[0][1])
        assert "Total Files Read: 6" in plan
        where = "date = '2026-11-24' and exchange in ('NSE', 'MCX')"
        plan = str(rows(lake, f"explain analyze select sum(last_price) from ticks where {where}")[0][1])
        assert "Total Files Read: 2" in plan
        assert rows(lake, f"select count(*) from ticks where {where}") == [(2,)]

    def test_use_the_files_that_the_table_names_and_no_others(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        table = LakeTable(half.layout.table("ticks"), schema.TICKS).open()
        stray = Path(table.snapshot().files[0])
        (stray.parent / "stray.parquet").write_bytes(stray.read_bytes())
        assert rows(lake, TICKS) == feed.ticks

    def test_symbols_come_from_the_instrument_list_in_both_parts(self, tmp_path: Path, lake: Lake, feed: Feed) -> None:
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


class TestSql:
    def test_takes_parameters_by_position_and_by_name(self, lake: Lake, half: ToyWriter) -> None:
        query = "select count(*) from ticks where instrument_token = ? and last_price > ?"
        assert rows(lake, query, [INFY, 1500.01]) == [(1,)]
        assert rows(lake, query, (INFY, 0)) == [(2,)]
        assert rows(lake, "select count(*) from ticks where instrument_token = $token", {"token": CRUDE}) == [(2,)]
        with pytest.raises(QueryError, match="got str, expected a list or a dict"):
            lake.sql("select ?", "x")

    def test_runs_several_statements_and_returns_the_last(self, lake: Lake, half: ToyWriter) -> None:
        query = "create temp table mine as select * from ticks; insert into mine from ticks; select count(*) from mine"
        assert rows(lake, query) == [(12,)]
        assert rows(lake, "select count(*) from mine, events") == [(12,)]
        assert lake.sql("from mine").reader().read_all().num_rows == 12

    def test_runs_a_transaction(self, lake: Lake, half: ToyWriter) -> None:
        rows(lake, "begin; select count(*) from ticks; from range(100_000); commit")
        assert rows(lake, "select count(*) from ticks") == [(6,)]

    @pytest.mark.parametrize(
        "theirs",
        [
            "create temp table ticks as select 7 as a",
            "create temp view TICKS as select 7 as a",
            "create or replace view ticks as select 7 as a",
            "drop view ticks; create table ticks as select 7 as a",
            "create schema mine; use mine; create table ticks as select 7 as a",
            "attach ':memory:' as other; use other; create table ticks as select 7 as a",
        ],
    )
    def test_a_name_of_ours_may_be_the_users_own(self, lake: Lake, half: ToyWriter, feed: Feed, theirs: str) -> None:
        assert rows(lake, f"{theirs}; from ticks") == [(7,)]
        feed.tick((INFY, 1))
        feed.flush()
        result = lake.sql("select a from Ticks")
        assert result.arrow().to_pylist() == result.reader().read_all().to_pylist() == [{"a": 7}]
        assert rows(lake, "select count(*) from events") == [(1,)]

    def test_a_name_of_ours_is_ours_again_when_the_users_own_is_gone(self, lake: Lake, half: ToyWriter) -> None:
        assert rows(lake, "create temp table ticks as select 7 as a; drop table ticks; select count(*) from ticks") == [
            (6,)
        ]

    def test_ends_when_it_is_interrupted(self, lake: Lake, half: ToyWriter) -> None:
        endless = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"
        works: list[Callable[[], object]] = [
            lambda: lake.sql(endless).arrow(),
            lambda: lake.sql(endless).reader().read_all(),
            lambda: lake.sql(f"create temp table t as {endless}"),
        ]
        for work in works:
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(work)
                while not done.done():
                    lake.interrupt()
                    wait([done], 0.05)
                with pytest.raises(QueryError, match=r"(?i)interrupt"):
                    done.result()

    def test_an_interruption_before_the_first_batch_is_typed_too(self, lake: Lake, half: ToyWriter) -> None:
        with patch.object(lake, "_again", side_effect=duckdb.InterruptException("INTERRUPT Error: Interrupted!")):
            result = lake.sql("select seq from ticks")
            with pytest.raises(QueryError, match="Interrupted"):
                result.reader()

    def test_copies_to_a_file(self, tmp_path: Path, lake: Lake, half: ToyWriter) -> None:
        target = tmp_path / "out.csv"
        assert rows(lake, f"copy (select seq from ticks order by seq) to '{target}'") == [(6,)]
        assert target.read_text().split() == ["seq", *map(str, range(6))]

    def test_lets_users_have_views_of_their_own(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        lake.sql("create view prices as select last_price from ticks")
        assert len(rows(lake, "from prices")) == 6
        feed.tick((INFY, 1))
        feed.flush()
        assert len(rows(lake, "from prices")) == 7

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("FROM Ticks SELECT count(*)", 6),
            ('select count(*) from "ticks" -- all', 6),
            ("-- first\nselect count(*) from ticks;", 6),
            ("with ticks as (select * from ticks limit 2) select count(*) from ticks; -- end", 2),
            ("with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select count(*) from n", 3),
            ("select count(*) from ticks a join ticks b using (stream, seq)", 6),
            ("select (select count(*) from ticks) + (select count(*) from events)", 7),
            ("with a as (from ticks), b as (from a) select count(*) from a join b using (seq)", 6),
            ("select count(*) from (pivot ticks on exchange using count(*) group by date)", 2),
            ("select count(*) from main.ticks", 6),
        ],
    )
    def test_understands_all_ways_to_name_a_view(self, lake: Lake, half: ToyWriter, query: str, expected: int) -> None:
        assert rows(lake, query) == [(expected,)]

    def test_keeps_names_and_order_as_the_query_says(self, lake: Lake, half: ToyWriter) -> None:
        result = lake.sql("select seq, seq from ticks order by seq desc")
        assert result.columns == ["seq", "seq"]
        assert result.arrow().column(0).to_pylist() == [5, 4, 3, 2, 1, 0]
        result = lake.sql("pivot ticks on exchange using count(*) group by date order by date")
        assert result.columns == ["date", "MCX", "NFO", "NSE"]

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("select nosuch from ticks", 'Referenced column "nosuch" not found'),
            ("select * from tick", 'Did you mean "ticks"'),
            ("selec 1", 'syntax error at or near "selec"'),
            ("select 1 from ticks\nwhere here and and", "LINE 2:"),
            ("select $a from ticks", "a"),
            ("select '\udcff'", "not valid text: got '.udcff' at position 8"),
            ("", "the query is empty"),
            (" -- nothing", "the query is empty"),
            ("select error('boom') from ticks", "boom"),
            ("drop view ticks; select count(*) from nosuch", "nosuch"),
        ],
    )
    def test_says_what_duckdb_says(self, lake: Lake, half: ToyWriter, query: str, text: str) -> None:
        with pytest.raises(QueryError, match=text):
            lake.sql(query).arrow()
        assert rows(lake, "select count(*) from events") == [(1,)]

    def test_after_close_says_so(self, lake: Lake, half: ToyWriter) -> None:
        late = lake.sql("select 1 from ticks")
        lake.close()
        lake.close()
        with pytest.raises(QueryError, match="closed"):
            lake.sql("select 1")
        with pytest.raises(QueryError, match=r"(?i)closed"):
            late.arrow()
        assert repr(lake).endswith("closed)")


class TestResult:
    def test_keeps_to_the_snapshot_of_its_call(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        early = lake.sql(TICKS)
        filtered = lake.sql("select seq from ticks").relation.filter("seq > 1")
        plain = lake.sql("with t as (from ticks) select count(*) from t")
        for _ in range(3):
            feed.tick((INFY, 1))
            feed.roll()
            half.commit_all()
            half.remove_committed()
            assert rows(lake, "select count(*) from ticks") == [(len(feed.ticks),)]
        assert len(early.arrow()) == len(early.reader().read_all()) == early.count() == 6
        assert filtered.aggregate("count(*)").fetchall() == [(4,)]
        assert plain.arrow().to_pylist() == [{"count_star()": 6}]
        assert rows(lake, "select count(*) from ticks") == [(9,)]

    def test_views_that_nothing_needs_are_dropped(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        query = "select count(*) from (show all tables) where schema = 'kitelake'"
        for _ in range(20):
            feed.tick((INFY, 1))
            feed.flush()
            lake.sql("from ticks").arrow()
        ((count,),) = rows(lake, query)
        assert int(str(count)) <= 2 * len(schema.TABLES)

    def test_comes_in_every_form(self, lake: Lake, half: ToyWriter) -> None:
        result = lake.sql("select seq, last_price, received_at from ticks order by seq")
        assert result.arrow()["seq"].to_pylist() == list(range(6))
        assert result.head(2)["seq"].to_pylist() == [0, 1]
        assert result.pl()["seq"].to_list() == list(range(6))
        frame = result.df()
        assert list(frame["seq"]) == list(range(6))
        assert str(frame["received_at"].dtype.tz) == "Asia/Kolkata"
        assert isinstance(result.relation, duckdb.DuckDBPyRelation)

    def test_reader_streams_beside_other_queries(self, lake: Lake, half: ToyWriter) -> None:
        reader = lake.sql("select range, count from range($n), (select count(*) as count from ticks)", {"n": 300_000})
        batches = reader.reader(10_000)
        total = batches.read_next_batch().num_rows
        assert 0 < total < 300_000
        assert rows(lake, "select count(*) from ticks") == [(6,)]
        assert total + sum(batch.num_rows for batch in batches) == 300_000

    def test_reader_outlives_result_and_reports_errors(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        query = "select if(range = 250_000, error('too far'), range) from range(300_000), events"
        reader = lake.sql(query).reader(1000)
        feed.event("more")
        feed.flush()
        assert rows(lake, "select count(*) from events") == [(2,)]
        with pytest.raises(QueryError, match="too far"):
            reader.read_all()

    @pytest.mark.parametrize(("method", "library"), [("df", "pandas"), ("pl", "polars")])
    def test_says_what_to_install(self, lake: Lake, monkeypatch: pytest.MonkeyPatch, method: str, library: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        monkeypatch.setattr(sys, "executable", "/long" * 20)
        with pytest.raises(MissingLibraryError, match=rf"{library} is not installed.*: pip install {library}$"):
            getattr(lake.sql("select 1"), method)()
        monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
        with pytest.raises(MissingLibraryError, match=rf": /usr/bin/python3 -m pip install {library}$"):
            getattr(lake.sql("select 1"), method)()

    def test_is_readable(self, lake: Lake, half: ToyWriter, capsys: pytest.CaptureFixture[str]) -> None:
        result = lake.sql("select seq, received_at, symbol from ticks order by seq limit 1")
        assert "2026-11-23 09:15:00+05:30" in repr(result)
        html = result._repr_html_()
        assert "<th>received_at</th>" in html
        assert "<td>0</td><td>2026-11-23 09:15:00+05:30</td><td>NULL</td>" in html
        assert "&lt;b&gt;" in lake.sql("select '<b>'")._repr_html_()
        assert "the first 100 rows" in lake.sql("from range(101)")._repr_html_()
        result.show()
        assert "2026-11-23 09:15:00+05:30" in capsys.readouterr().out

    def test_of_a_statement_without_rows(self, lake: Lake) -> None:
        result = lake.sql("create temp table t (a int)")
        assert result.arrow().num_rows == 0
        assert result.reader().read_all().num_rows == 0


class TestConnect:
    def test_gives_a_database_of_its_own(self, lake: Lake, half: ToyWriter, feed: Feed) -> None:
        with lake.connect() as con:
            feed.tick((INFY, 1))
            feed.flush()
            lake.close()
            assert con.sql("select count(*) from ticks").fetchall() == [(6,)]
            assert con.cursor().sql("select count(*) from ticks").fetchall() == [(6,)]
            assert con.sql("show tables").fetchall() == [(name,) for name in sorted(schema.TABLES)]
            shown = con.sql("select min(received_at)::varchar from ticks").fetchall()
            assert shown == [("2026-11-23 09:15:00+05:30",)]


class TestFolder:
    def test_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(NoLakeError, match=r"there is no such folder.*kitelake demo"):
            Lake(tmp_path / "nothing", ToyDecoder())

    def test_that_is_empty(self, tmp_path: Path) -> None:
        with pytest.raises(NoLakeError, match=r"is empty.*kitelake demo"):
            Lake(tmp_path, ToyDecoder())

    def test_that_is_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        with pytest.raises(NoLakeError, match="got a file"):
            Lake(path, ToyDecoder())

    def test_that_is_something_else(self, tmp_path: Path) -> None:
        for number in range(7):
            (tmp_path / f"{number}.txt").touch()
        with pytest.raises(DataFolderError, match=r"got a folder with 0.txt, .*4.txt, …; expected a data folder"):
            Lake(tmp_path, ToyDecoder())

    @pytest.mark.parametrize(
        "name", ["with space", 'o\'clock "x"', "a=b", "date=2020-01-01", "exchange=X", "[ab]*?", "नमस्ते", "{a,b}", "~"]
    )
    def test_with_a_strange_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "aX").mkdir()
        root = tmp_path / name
        with Feed(root, STREAM) as feed, Lake(root, ToyDecoder()) as lake:
            feed.tick((INFY, 1), (CRUDE, 2))
            feed.roll()
            ToyWriter(root).commit_all()
            feed.tick((INFY, 3))
            feed.flush()
            assert rows(lake, TICKS) == feed.ticks
            assert rows(lake, "select distinct date::varchar, exchange from ticks order by all") == [
                ("2026-11-23", "MCX"),
                ("2026-11-23", "NSE"),
            ]
            assert repr(lake) == f"Lake({str(root)!r})"

    def test_is_not_written_to(self, tmp_path: Path, feed: Feed, half: ToyWriter) -> None:
        def state() -> dict[str, tuple[int, int]]:
            return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}

        before = state()
        with Lake(tmp_path, ToyDecoder()) as lake:
            assert rows(lake, TICKS) == feed.ticks
            with lake.connect() as con:
                con.sql("from orders").to_arrow_table()
        assert state() == before

    def test_that_is_relative_stays_where_it_was(
        self, tmp_path: Path, feed: Feed, half: ToyWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path.parent)
        with Lake(tmp_path.name, ToyDecoder()) as lake:
            monkeypatch.chdir("/")
            assert rows(lake, TICKS) == feed.ticks


LIGHT = """
import sys
import queries.lake.lake
heavy = {"pandas", "polars", "pyarrow.dataset", "rich", "plotext"} & set(sys.modules)
assert not heavy, heavy
from tests.support.lake import ToyDecoder
lake = queries.lake.lake.Lake(sys.argv[1], ToyDecoder())
table = lake.sql("select seq, received_at, date::varchar as day from ticks order by seq").arrow()
assert not {"pyarrow.dataset", "polars"} & set(sys.modules)
print(table.schema.field("received_at").type, *table["seq"].to_pylist(), *set(table["day"].to_pylist()))
print(lake.sql("select min(received_at)::varchar, min(hour(received_at)) from ticks").arrow().to_pylist())
"""


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Kiritimati"])
def test_any_zone_and_few_imports_and_a_quiet_end(tmp_path: Path, feed: Feed, zone: str) -> None:
    feed.tick((INFY, 1), (CRUDE, 2))
    feed.roll()
    ToyWriter(tmp_path).commit_all()
    feed.tick((INFY, 3))
    feed.flush()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIGHT, str(tmp_path)],
        env={**os.environ, "TZ": zone},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == "timestamp[us, tz=Asia/Kolkata] 0 1 2 2026-11-23"
    assert "2026-11-23 09:15:00+05:30" in second
    assert ": 9}" in second
