"""A result: rows in every form, of the moment of the call."""

import importlib.util
import sys

import duckdb
import pytest

from queries.errors import MissingLibraryError, QueryError
from queries.lake.lake import SqlLake
from storage import schema
from tests.support.lake import INFY, Feed, ToyWriter
from tests.support.lake_queries import TICKS, rows


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
    assert "<th>received_at</th>" in html
    assert "<td>0</td><td>2026-11-23 09:15:00+05:30</td><td>NULL</td>" in html
    assert "&lt;b&gt;" in lake.sql("select '<b>'")._repr_html_()
    assert "the first 100 rows" in lake.sql("from range(101)")._repr_html_()
    result.show()
    assert "2026-11-23 09:15:00+05:30" in capsys.readouterr().out


def test_of_a_statement_without_rows(lake: SqlLake) -> None:
    result = lake.sql("create temp table t (a int)")
    assert result.arrow().num_rows == 0
    assert result.reader().read_all().num_rows == 0
