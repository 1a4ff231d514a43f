"""What a query sees and what it is given back, over a small lake that is partly committed and partly in the journal."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pytest

from queries.errors import QueryError, QueryTimeoutError
from queries.lake.lake import SqlLake
from queries.lake.restricted import Limits
from queries.lake.state import LakeState
from tests.support.lake import CRUDE, INFY, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import rows
from tests.support.scaled import scaled
from tests.support.waiting import PATIENCE_SECONDS

LOOKS = scaled(4, 25)


class TestSql:
    def test_takes_parameters_by_position_and_by_name(self, still: SqlLake) -> None:
        query = "select count(*) from ticks where instrument_token = ? and last_price > ?"
        assert rows(still, query, [INFY, 1500.01]) == [(1,)]
        assert rows(still, query, (INFY, 0)) == [(2,)]
        assert rows(still, "select count(*) from ticks where instrument_token = $token", {"token": CRUDE}) == [(2,)]
        with pytest.raises(QueryError, match="got str, expected a list or a dict"):
            still.sql("select ?", "x")
        with pytest.raises(QueryError, match="got int, expected a list or a dict"):
            still.sql("select ?", 5)  # type: ignore[arg-type]

    def test_runs_several_statements_and_returns_the_last(self, lake: SqlLake, half: ToyWriter) -> None:
        query = "create temp table mine as select * from ticks; insert into mine from ticks; select count(*) from mine"
        assert rows(lake, query) == [(12,)]
        assert rows(lake, "select count(*) from mine, events") == [(12,)]
        assert lake.sql("from mine").reader().read_all().num_rows == 12

    def test_runs_a_transaction(self, lake: SqlLake, half: ToyWriter) -> None:
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
    def test_a_name_of_ours_may_be_the_users_own(self, lake: SqlLake, half: ToyWriter, feed: Feed, theirs: str) -> None:
        assert rows(lake, f"{theirs}; from ticks") == [(7,)]
        feed.tick((INFY, 1))
        feed.flush()
        result = lake.sql("select a from Ticks")
        assert result.arrow().to_pylist() == result.reader().read_all().to_pylist() == [{"a": 7}]
        assert rows(lake, "select count(*) from events") == [(1,)]

    def test_a_name_of_ours_is_ours_again_when_the_users_own_is_gone(self, lake: SqlLake, half: ToyWriter) -> None:
        assert rows(lake, "create temp table ticks as select 7 as a; drop table ticks; select count(*) from ticks") == [
            (6,)
        ]

    @pytest.mark.slow
    def test_ends_when_it_is_interrupted(self, lake: SqlLake, half: ToyWriter) -> None:
        endless = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"
        works: list[Callable[[], object]] = [
            lambda: lake.sql(endless).arrow(),
            lambda: lake.sql(endless).reader().read_all(),
            lambda: lake.sql(f"create temp table t as {endless}"),
            lambda: list(lake.look().read([endless])),
            lambda: list(lake.look().read([endless], many=True)),
        ]
        for work in works:
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(work)
                while not done.done():
                    lake.interrupt()
                    wait([done], 0.05)
                with pytest.raises(QueryError, match=r"(?i)interrupt"):
                    done.result()

    @pytest.mark.parametrize("many", [False, True])
    def test_closing_waits_for_what_another_thread_reads(self, lake: SqlLake, half: ToyWriter, many: bool) -> None:
        some_tenths_of_a_second = "select sum(hash(a.range * b.range)) from range(10_000) a, range(10_000) b"
        lake.follow_progress()
        reading = lake.look().read([some_tenths_of_a_second] * 3, many=many)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(next, reading)
            while not done.done() and not lake.progress():
                wait([done], 0.01)
            lake.close()
            assert done.result().num_rows == 1
        with pytest.raises(QueryError):
            list(reading)

    def test_an_interruption_before_the_first_batch_is_typed_too(self, still: SqlLake) -> None:
        with patch.object(still, "_again", side_effect=duckdb.InterruptException("INTERRUPT Error: Interrupted!")):
            result = still.sql("select seq from ticks")
            with pytest.raises(QueryError, match="interrupted"):
                result.reader()

    @pytest.mark.parametrize("many", [False, True])
    def test_an_interruption_between_two_queries_of_a_helper_is_heard(self, still: SqlLake, many: bool) -> None:
        reading = still.look().read(["SELECT 1 AS n"] * 4, many=many)
        next(reading)
        still.interrupt()
        with pytest.raises(QueryError, match="interrupted"):
            list(reading)
        assert rows(still, "select 1") == [(1,)]

    def test_copies_to_a_file(self, tmp_path_factory: pytest.TempPathFactory, lake: SqlLake, half: ToyWriter) -> None:
        target = tmp_path_factory.mktemp("elsewhere") / "out.csv"
        assert rows(lake, f"copy (select seq from ticks order by seq) to '{target}'") == [(6,)]
        assert target.read_text().split() == ["seq", *map(str, range(6))]

    def test_lets_users_have_views_of_their_own(self, lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
        lake.sql("create view prices as select last_price from ticks")
        assert len(rows(lake, "from prices")) == 6
        feed.tick((INFY, 1))
        feed.flush()
        assert len(rows(lake, "from prices")) == 7

    @pytest.mark.parametrize(
        "query",
        [
            "show tables",
            "SELECT name FROM (SHOW ALL TABLES)",
            "select table_name from information_schema.tables where table_schema = 'main'",
            "select view_name from duckdb_views() where schema_name = 'main' and not internal",
            "select name from sqlite_master",
            "select viewname from pg_catalog.pg_views where schemaname = 'main'",
        ],
    )
    def test_lists_its_names_from_the_first_query_on(self, lake: SqlLake, half: ToyWriter, query: str) -> None:
        assert {"ticks", "ticks_all", "events", "quotes"} <= {row[0] for row in rows(lake, query)}

    def test_says_which_name_is_like_the_wrong_one_from_the_first_query_on(
        self, lake: SqlLake, half: ToyWriter
    ) -> None:
        assert rows(lake, "select count(*) from events") == [(1,)]
        with pytest.raises(QueryError, match=r'with name tikcs does not exist!\nDid you mean "ticks'):
            lake.sql("select 1\nfrom tikcs")

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
    def test_understands_all_ways_to_name_a_view(self, still: SqlLake, query: str, expected: int) -> None:
        assert rows(still, query) == [(expected,)]

    def test_a_word_may_be_long(self, still: SqlLake) -> None:
        word = "x" * 200_000
        assert rows(still, f"select length('{word}')") == [(len(word),)]

    def test_keeps_names_and_order_as_the_query_says(self, still: SqlLake) -> None:
        result = still.sql("select seq, seq from ticks order by seq desc")
        assert result.columns == ["seq", "seq"]
        assert result.arrow().column(0).to_pylist() == [5, 4, 3, 2, 1, 0]
        result = still.sql("pivot ticks on exchange using count(*) group by date order by date")
        assert result.columns == ["date", "MCX", "NFO", "NSE"]

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("select nosuch from ticks", 'Referenced column "nosuch" not found'),
            ("select * from tick", 'Did you mean "ticks"'),
            ("selec 1", 'syntax error at or near "selec"'),
            ("select 1 from ticks\nwhere here and and", "LINE 2:"),
            ("select $a from ticks", "a"),
            (None, "query: got NoneType, expected SQL text"),
            ("select '\udcff'", "not valid text: got '.udcff' at position 8"),
            ("", "the query is empty"),
            (" -- nothing", "the query is empty"),
            ("select error('boom') from ticks", "boom"),
        ],
    )
    def test_says_what_duckdb_says(self, still: SqlLake, query: Any, text: str) -> None:
        with pytest.raises(QueryError, match=text):
            still.sql(query).arrow()
        assert rows(still, "select count(*) from events") == [(1,)]

    def test_says_it_of_a_script_that_has_changed_something(self, lake: SqlLake, half: ToyWriter) -> None:
        with pytest.raises(QueryError, match="nosuch"):
            lake.sql("drop view ticks; select count(*) from nosuch").arrow()
        assert rows(lake, "select count(*) from events") == [(1,)]

    @pytest.mark.parametrize("many", [False, True])
    def test_reads_one_state_for_helpers(self, lake: SqlLake, half: ToyWriter, feed: Feed, many: bool) -> None:
        state = lake.look()
        names = ("ticks", "orders", "ticks", "nosuch")
        reading = state.read((f"SELECT count(*) AS n FROM {name}" for name in names), many=many)
        before = [next(reading)["n"].to_pylist()]
        feed.tick((INFY, 1))
        feed.order("sold again")
        before.append(next(reading)["n"].to_pylist())
        before.append(next(reading)["n"].to_pylist())
        assert before == [[6], [3], [6]]
        with pytest.raises(QueryError, match="nosuch"):
            next(reading)
        late = "SELECT CASE WHEN i > 3000000 THEN error('boom') ELSE i END FROM range(4000000) t(i)"
        with pytest.raises(QueryError, match="boom"):
            next(state.read([late], many=many))

    def test_reading_many_rows_may_be_left_off(self, lake: SqlLake, half: ToyWriter) -> None:
        """What is read ahead of the caller ends with it."""
        endless = "SELECT sum(hash(a.range * b.range)) FROM range(1_000_000) a, range(1_000_000) b"
        reading = lake.look().read(["SELECT 1 AS n", endless, endless], many=True)
        assert next(reading)["n"].to_pylist() == [1]
        del reading
        assert rows(lake, "select count(*) from ticks") == [(6,)]

    def test_what_was_to_be_read_ahead_and_did_not_begin_ends_with_the_caller_too(
        self, lake: SqlLake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        may_go_on = threading.Event()

        class Busy(ThreadPoolExecutor):
            """Its thread has something else to do after the first query."""

            def submit(self, *query: Any, **options: Any) -> Any:
                found = super().submit(*query, **options)
                super().submit(may_go_on.wait)
                return found

        monkeypatch.setattr("queries.lake.running.ThreadPoolExecutor", Busy)
        held = [lake.look().read(["SELECT 1 AS n"] * 2, many=True)]
        assert next(held[0])["n"].to_pylist() == [1]
        try:
            ThreadPoolExecutor(1).submit(held.clear).result(PATIENCE_SECONDS)
        finally:
            may_go_on.set()

    def test_many_rows_are_read_of_the_users_own_too(self, lake: SqlLake, half: ToyWriter) -> None:
        lake.sql("create temp table ticks as select 7 as a")
        queries = ["SELECT * FROM ticks", "SELECT count(*) AS a FROM events"]
        assert [one["a"].to_pylist() for one in lake.look().read(queries, many=True)] == [[7], [1]]

    @pytest.mark.slow
    @pytest.mark.parametrize("many", [False, True])
    def test_reading_ends_with_the_lakes_limit(self, tmp_path: Path, half: ToyWriter, many: bool) -> None:
        endless = "SELECT sum(a.range) AS n FROM range(1000000) a, range(1000000) b"
        with SqlLake(tmp_path, ToyDecoder(), limits=Limits(seconds=0.2)) as lake:
            with pytest.raises(QueryTimeoutError):
                list(lake.look().read(["SELECT 1 AS n", endless, endless], many=many))
            queries = ["SELECT 1 AS n", "SELECT 2 AS n"]
            assert [rows["n"].to_pylist() for rows in lake.look().read(queries, many=many)] == [[1], [2]]

    @pytest.mark.slow
    def test_views_of_rows_are_made_in_turns(self, lake: SqlLake, half: ToyWriter) -> None:
        """As helpers make them, of the user's threads, between queries."""
        given = pa.table({"x": [1]})

        def ask(_: int) -> int:
            return sum(is_there(lake.look()) for _ in range(LOOKS))

        def is_there(state: LakeState) -> bool:
            of_view = state.sql(f"FROM {state.rows_view('given', given).name}")
            results = (of_view.arrow(), state.rows(given).arrow(), *state.rows(given).arrow(count=5))
            return [rows["x"].to_pylist() for rows in results] == [[1]] * 3

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(8))) == [LOOKS] * 8

    def test_after_close_says_so(self, lake: SqlLake, half: ToyWriter) -> None:
        late = lake.sql("select 1 from ticks")
        lake.close()
        lake.close()
        with pytest.raises(QueryError, match="closed"):
            lake.sql("select 1")
        with pytest.raises(QueryError, match=r"(?i)closed"):
            late.arrow()
        assert repr(lake).endswith("closed)")
        assert lake._repr_html_() is None
