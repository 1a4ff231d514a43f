"""`kitelake.open`: what a lake may use, and what a restricted one gives."""

from pathlib import Path

import pytest

import kitelake
from queries.errors import QueryError, QueryTimeoutError, RestrictedError
from storage.layout import DataLayout

ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"
SETTINGS = "select current_setting('memory_limit') as memory, current_setting('threads') as threads"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    DataLayout(tmp_path).journal.mkdir()
    return tmp_path


def test_limits_are_the_lakes_own(empty: Path) -> None:
    with kitelake.open(empty, memory_limit="1GiB", threads=3, timeout=0.2) as lake:
        assert lake.sql(SETTINGS).arrow().to_pylist() == [{"memory": "1.0 GiB", "threads": 3}]
        lake.sql("copy (select 1) to '/dev/null'")
        with pytest.raises(QueryTimeoutError):
            lake.sql(ENDLESS, timeout=1000).arrow()


def test_a_restricted_lake_has_limits_unless_others_are_set(empty: Path) -> None:
    with kitelake.open(empty, restricted=True) as lake:
        con = lake._con.cursor()
        assert con.sql(SETTINGS).fetchall() == [("953.6 MiB", 2)]
        with pytest.raises(RestrictedError):
            lake.sql(SETTINGS)
        assert lake._timeout == 30.0
    with kitelake.open(empty, restricted=True, timeout=0.2, memory_limit="2GiB") as lake:
        assert lake._con.cursor().sql(SETTINGS).fetchall() == [("2.0 GiB", 2)]
        with pytest.raises(QueryTimeoutError):
            lake.sql(ENDLESS).arrow()


def test_limits_that_cannot_be_kept(empty: Path) -> None:
    for limits in ({"memory_limit": "much"}, {"threads": 0}, {"timeout": -1.0}):
        with pytest.raises(QueryError):
            kitelake.open(empty, restricted=True, **limits)
