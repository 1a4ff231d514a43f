"""Transactions of the user's, and settings of his: they hold, and cost no answer."""

import pytest

from queries.errors import QueryError
from queries.lake import views
from queries.lake.lake import SqlLake
from tests.support.lake import INFY, Feed, ToyWriter
from tests.support.lake_queries import rows

SETTING = "select current_setting('disable_parquet_prefetching')"


def count_of(lake: SqlLake, table: str) -> int:
    ((count,),) = rows(lake, f"select count(*) from {table}")
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("begin", ["BEGIN", "begin transaction;", "  START TRANSACTION"])
@pytest.mark.parametrize("table", ["ticks", "ticks_all", "events"])
def test_what_is_made_in_a_transaction_has_all_rows(
    lake: SqlLake, half: ToyWriter, feed: Feed, begin: str, table: str
) -> None:
    """Also if nothing but SELECTs was asked of a table before, and whether or not a condition chooses partitions."""
    count = count_of(lake, table)
    assert count > 0
    lake.sql(begin)
    for name, where in (("every", "true"), ("chosen", "date >= DATE '2000-01-01'")):
        lake.sql(f"create temp table {name} as select * from {table} where {where}").arrow()
        assert count_of(lake, name) == count
    lake.sql("COMMIT")
    feed.tick((INFY, 900))
    feed.event("connected")
    feed.flush()
    assert count_of(lake, "chosen") == count
    assert count_of(lake, table) == count + 1


def test_a_table_is_not_empty_where_a_transaction_cannot_see_it(lake: SqlLake, half: ToyWriter) -> None:
    lake.sql("-- how it begins is not seen here\nBEGIN")
    with pytest.raises(QueryError, match="a query reads the tables that it names itself"):
        lake.sql("create temp table chosen as select * from ticks where date >= DATE '2000-01-01'").arrow()
    lake.sql("ROLLBACK")
    assert count_of(lake, "ticks") > 0


@pytest.mark.parametrize("end", ["ROLLBACK", "rollback;", "abort", " Rollback Transaction ; "])
def test_a_transaction_that_failed_can_be_rolled_back(lake: SqlLake, half: ToyWriter, feed: Feed, end: str) -> None:
    """Whatever has come meanwhile."""
    count = count_of(lake, "ticks")
    lake.sql("BEGIN")
    with pytest.raises(QueryError, match="by itself"):
        lake.sql("select error('by itself')").arrow()
    feed.tick((INFY, 900))
    feed.flush()
    with pytest.raises(QueryError, match="ROLLBACK"):
        lake.sql("select 1").arrow()
    lake.sql(end)
    assert count_of(lake, "ticks") == count + 1


def test_settings_may_be_locked(lake: SqlLake, half: ToyWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.sql("SET lock_configuration = true")
    monkeypatch.setattr(views, "SMALL_FILES", 1)
    count = count_of(lake, "ticks")
    assert count > 0
    assert rows(lake, SETTING) == [(False,)]


def test_a_setting_of_the_users_own_stays(lake: SqlLake, half: ToyWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SMALL_FILES", 1)
    lake.sql("SET GLOBAL disable_parquet_prefetching = false")
    assert count_of(lake, "ticks") > 0
    assert rows(lake, SETTING) == [(False,)]
