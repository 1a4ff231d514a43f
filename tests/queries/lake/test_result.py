"""A result: rows in every form, of the moment of the call."""

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from queries.errors import ClosedError, MissingLibraryError, QueryError, QueryTimeoutError
from queries.lake.lake import SqlLake
from queries.lake.result import Result
from queries.lake.running import Clock, typed_errors
from storage import schema
from tests.support.lake import INFY, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import TICKS, rows
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow  # tables are made for each test


def test_keeps_to_the_snapshot_of_its_call(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
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


def test_views_that_nothing_needs_are_dropped(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    query = "select count(*) from (show all tables) where schema = 'kitelake'"
    for _ in range(20):
        feed.tick((INFY, 1))
        feed.flush()
        lake.sql("from ticks").arrow()
    ((count,),) = rows(lake, query)
    assert int(str(count)) <= 2 * len(schema.TABLES)


def test_comes_in_every_form(lake: SqlLake, half: ToyWriter) -> None:
    result = lake.sql("select seq, last_price, received_at from ticks order by seq")
    assert result.arrow()["seq"].to_pylist() == list(range(6))
    assert result.head(2)["seq"].to_pylist() == [0, 1]
    assert result.head(np.int64(2)) == result.head(2)  # type: ignore[arg-type]
    assert result.reader(np.int64(2)).read_all() == result.arrow()  # type: ignore[arg-type]
    for number in (-1, 1.5, "x", True, 1 << 70):
        with pytest.raises(QueryError, match=r"^rows: got .*, expected a number of rows from 0"):
            result.head(number)  # type: ignore[arg-type]
    for number in (0, -1, 1.5, True, 1 << 70):
        with pytest.raises(QueryError, match=r"^batch_rows: got .*, expected a number of rows from 1"):
            result.reader(number)  # type: ignore[arg-type]
    assert result.pl()["seq"].to_list() == list(range(6))
    frame = result.df()
    assert list(frame["seq"]) == list(range(6))
    assert str(frame["received_at"].dtype.tz) == "Asia/Kolkata"
    assert isinstance(result.relation, duckdb.DuckDBPyRelation)


def test_reader_streams_beside_other_queries(lake: SqlLake, half: ToyWriter) -> None:
    reader = lake.sql("select range, count from range($n), (select count(*) as count from ticks)", {"n": 300_000})
    batches = reader.reader(10_000)
    total = batches.read_next_batch().num_rows
    assert 0 < total < 300_000
    assert rows(lake, "select count(*) from ticks") == [(6,)]
    assert total + sum(batch.num_rows for batch in batches) == 300_000


def test_reader_outlives_result_and_reports_errors(lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
    query = "select if(range = 250_000, error('too far'), range) from range(300_000), events"
    reader = lake.sql(query).reader(1000)
    feed.event("more")
    feed.flush()
    assert rows(lake, "select count(*) from events") == [(2,)]
    with pytest.raises(QueryError, match="too far"):
        reader.read_all()


@pytest.mark.parametrize(("method", "library"), [("df", "pandas"), ("pl", "polars")])
def test_says_what_to_install(lake: SqlLake, monkeypatch: pytest.MonkeyPatch, method: str, library: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/long" * 20)
    with pytest.raises(MissingLibraryError, match=rf"{library} is not installed.*: pip install {library}$"):
        getattr(lake.sql("select 1"), method)()
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    with pytest.raises(MissingLibraryError, match=rf": /usr/bin/python3 -m pip install {library}$"):
        getattr(lake.sql("select 1"), method)()


def test_is_readable(lake: SqlLake, half: ToyWriter, capsys: pytest.CaptureFixture[str]) -> None:
    result = lake.sql("select seq, received_at, symbol from ticks order by seq limit 1")
    assert "2026-11-23 09:15:00+05:30" in repr(result)
    html = result._repr_html_()
    assert "<th>received_at<br><small>timestamp with time zone</small></th>" in html
    assert "<td>0</td><td>2026-11-23 09:15:00+05:30</td><td>NULL</td>" in html
    assert "&lt;b&gt;" in lake.sql("select '<b>'")._repr_html_()
    assert "1 row<" in html
    assert "<th>&lt;i&gt;<br>" in lake.sql("select 1 as '<i>'")._repr_html_()
    many = lake.sql("from range(1234)")._repr_html_()
    assert "the first 100 of 1,234 rows" in many
    assert many.count("<tr>") == 101
    result.show()
    assert "2026-11-23 09:15:00+05:30" in capsys.readouterr().out


def test_of_a_statement_without_rows(lake: SqlLake) -> None:
    result = lake.sql("create temp table t (a int)")
    assert result.arrow().num_rows == 0
    assert result.reader().read_all().num_rows == 0


ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"
LONG = "select max(hash(range)) as n from range(60_000_000)"
ROUNDS = scaled(2, 5)


class TestTimeout:
    @pytest.mark.parametrize(
        "fetch",
        [
            Result.arrow,
            Result.df,
            Result.pl,
            Result.numpy,
            Result.count,
            Result.show,
            repr,
            lambda result: result.head(1),
            lambda result: result.reader().read_all(),
            lambda result: next(result.df(count=1)),
            lambda result: result.project("#1").arrow(),
        ],
    )
    def test_ends_every_fetch(self, lake: SqlLake, fetch: Callable[[Result], object]) -> None:
        result = lake.sql(f"select a.range from ({ENDLESS}) n(x), range(3) a where x > 0", timeout=0.1)
        for _ in range(2):
            with pytest.raises(QueryTimeoutError, match=r"its limit of 0\.1 s; ask for fewer days"):
                fetch(result)
        assert rows(lake, "select 1") == [(1,)]

    def test_ends_what_runs_at_once(self, lake: SqlLake) -> None:
        for query in (
            f"create table t as {ENDLESS}",
            f"create table t as {ENDLESS}; select 1",
            f"explain analyze {ENDLESS}",
        ):
            with pytest.raises(QueryTimeoutError):
                lake.sql(query, timeout=0.1)

    def test_is_no_matter_of_what_is_quick(self, lake: SqlLake, half: ToyWriter) -> None:
        result = lake.sql(TICKS, timeout=1000)
        assert len(result.arrow()) == result.count() == sum(batch.num_rows for batch in result.reader(1)) == 6

    def test_does_not_count_what_the_reader_of_a_stream_does(self, lake: SqlLake) -> None:
        """The clock stands still between two batches: what is left after a pause is what was left before."""
        clock = Clock(1000)
        with duckdb.connect() as con:
            with clock.running(con):
                con.execute("select 1").fetchall()
            left = clock._left
            assert left is not None
            assert left < 1000
            threading.Event().wait(0.05)
            assert clock._left == left

    def test_hits_only_its_own_query(self, lake: SqlLake) -> None:
        """Others run on the same connection before, between and after, and as streams beside it."""
        expected = rows(lake, LONG)
        begun = threading.Barrier(4)

        def ended() -> None:
            begun.wait()
            for _ in range(ROUNDS):
                with pytest.raises(QueryTimeoutError):
                    lake.sql(ENDLESS, timeout=0.05).arrow()

        def whole(fetch: Callable[[Result], object]) -> list[object]:
            begun.wait()
            return [fetch(lake.sql(LONG)) for _ in range(ROUNDS)]

        with ThreadPoolExecutor(4) as pool:
            impatient = pool.submit(ended)
            patient = [
                pool.submit(whole, fetch)
                for fetch in (
                    lambda result: result.arrow()["n"].to_pylist(),
                    lambda result: result.reader().read_all()["n"].to_pylist(),
                    lambda result: list(result.numpy()["n"].tolist()),
                )
            ]
            impatient.result()
            for done in patient:
                assert done.result() == [[expected[0][0]]] * ROUNDS

    def test_an_interruption_is_no_timeout(self, lake: SqlLake) -> None:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(lambda: lake.sql(ENDLESS, timeout=1000).arrow())
            while not done.done():
                lake.interrupt()
                threading.Event().wait(0.02)
            error = done.exception()
            assert isinstance(error, QueryError)
            assert not isinstance(error, QueryTimeoutError)

    @pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True, "30"])
    def test_is_a_length_of_time(self, lake: SqlLake, timeout: float) -> None:
        with pytest.raises(QueryError, match=r"timeout: got .*, expected seconds above 0"):
            lake.sql("select 1", timeout=timeout)

    def test_may_be_a_number_of_numpys(self, lake: SqlLake) -> None:
        for timeout in (np.float64(0.1), np.float32(0.1)):
            with pytest.raises(QueryTimeoutError):
                lake.sql(ENDLESS, timeout=timeout).arrow()  # type: ignore[arg-type]

    def test_holds_for_a_state_too(self, lake: SqlLake) -> None:
        with pytest.raises(QueryTimeoutError):
            lake.look().sql(ENDLESS, timeout=0.1).arrow()


@pytest.mark.parametrize(
    ("fault", "advice"), [(duckdb.InternalException, "The lake works on"), (duckdb.FatalException, "opened anew")]
)
def test_what_breaks_in_duckdb_is_two_lines(fault: type[duckdb.Error], advice: str) -> None:
    name = fault.__name__.removesuffix("Exception").upper()
    with pytest.raises(QueryError, match=f"{name} Error: table index mismatch\n.*{advice}") as caught, typed_errors():
        raise fault(f"{name} Error: table index mismatch\n\nStack Trace:\n0 _PyEval_Vector")
    assert len(str(caught.value).splitlines()) == 2


def test_an_interrupt_from_the_keyboard_stays_one_while_python_gives_rows() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]})
        raise KeyboardInterrupt

    source = pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), batches())
    with duckdb.connect().register("source", source) as con, pytest.raises(KeyboardInterrupt), typed_errors():
        con.sql("select sum(a) from source").fetchall()


def test_after_the_lake_was_closed_says_so(tmp_path: Path, feed: Feed) -> None:
    with SqlLake(tmp_path, ToyDecoder()) as lake:
        result = lake.sql("select 1 as a")
        state = lake.look()
    asked: list[Callable[[], object]] = [
        result.arrow, result.df, result.pl, result.numpy, result.count, result.show, result.reader,
        lambda: result.head(1), lambda: result.columns, lambda: next(result.arrow(count=1)),
        lambda: state.sql("select 1"), lake.look, lambda: lake.sql("select 1"), lake.interrupt,
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(ClosedError, match=r"closed.*open it anew"):
            ask()
