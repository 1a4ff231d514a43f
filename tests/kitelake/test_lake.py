"""`kitelake.open`: what a lake may use, and what a restricted one gives."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import kitelake
from kitelake import Result
from queries.errors import QueryError, QueryTimeoutError, RestrictedError
from storage.layout import DataLayout
from tests.support.captured import INFY, Captured
from tests.support.scaled import scaled
from tests.support.two_days import DAYS, two_days
from tests.support.waiting import PATIENCE_SECONDS

__all__ = ["two_days"]

ENDLESS = "select sum(hash(a.range * b.range)) from range(1_000_000) a, range(1_000_000) b"
SETTINGS = "select current_setting('memory_limit') as memory, current_setting('threads') as threads"

LOADED = """
import sys, kitelake
with kitelake.open(sys.argv[1]) as lake:
    lake.sql("select count(*) from ticks where date = '2026-11-23'").arrow()
print(*sys.modules)
"""

WITHOUT_PANDAS = """
import sys, kitelake
day = sys.argv[2]
with kitelake.open(sys.argv[1]) as lake:
    assert len(lake.bars("NSE:INFY", "1 minute", day).arrow()) and len(lake.trades("NSE:INFY", day).arrow())
    assert len(lake.ticks("NSE:INFY", day).arrow()) and len(lake.latest("NSE:INFY", f"{day} 23:00").arrow())
    for columns in (None, "all"):
        for symbols in (None, "NSE:INFY"):  # the latter are asked of the database
            assert len(list(lake.feed(symbols, day, columns=columns)))
    assert lake.feed("NSE:INFY", day).digest()
print(*sys.modules)
"""


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


def test_a_query_loads_no_helper(empty: Path) -> None:
    """They would take as long as the rest of what opening loads of ours."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, empty], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    names = {name for name in done.stdout.split() if name.startswith(("queries.", "storage.market"))}
    helpers = {name for name in names if name.split(".")[1] in ("bars", "asof", "options", "quality", "connections")}
    assert {name for name in helpers if name.count(".") > 1} <= {
        "queries.asof.methods",
        "queries.bars.choices",
        "queries.bars.methods",
        "queries.options.listed",
        "queries.options.methods",
        "queries.quality.methods",
    }
    assert not names & {"queries.history.symbols", "queries.history.blocks", "storage.market"}


def test_helpers_do_without_pandas_though_it_is_there(tmp_path: Path) -> None:
    """But for what lies in the journal: DuckDB takes that as a dataset of pyarrow, whose module imports pandas."""
    pytest.importorskip("pandas")
    with Captured(tmp_path) as captured:
        captured.instruments()
        line = captured.run("08:55").line()
        line.begin("09:00", INFY)
        line.full("09:15:01.5", INFY, 101.0, volume=10, traded="09:15:01", stamped="09:15:01")
        line.full("09:15:02.2", INFY, 102.0, volume=30, traded="09:15:02", stamped="09:15:03")
        captured.commit()
    for stream in DataLayout(tmp_path).journal.iterdir():
        shutil.rmtree(stream)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PANDAS, tmp_path, "2026-11-24"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert "pandas" not in done.stdout.split()


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


def test_errors_can_be_caught_by_their_public_names(empty: Path) -> None:
    with pytest.raises(kitelake.NoLakeError):
        kitelake.open(empty / "nothing")
    with kitelake.open(empty, timeout=0.2) as lake:
        with pytest.raises(kitelake.SymbolError):
            lake.ticks("NSE:NOTHING")
        with pytest.raises(kitelake.QueryTimeoutError):
            lake.sql(ENDLESS).arrow()
        with pytest.raises(kitelake.QueryError):
            lake.sql("from nothing").arrow()


@pytest.mark.parametrize("path", [None, 5, b"data", "\0"])
def test_what_is_no_path_is_said(path: Any) -> None:
    with pytest.raises(kitelake.NoLakeError, match=r"path: got|got no path"):
        kitelake.open(path)


def test_limits_that_cannot_be_kept(empty: Path) -> None:
    for limits in ({"memory_limit": "much"}, {"threads": 0}, {"timeout": -1.0}):
        with pytest.raises(QueryError):
            kitelake.open(empty, restricted=True, **limits)


@pytest.fixture(scope="module")
def lake(two_days: Path) -> Iterator[kitelake.Lake]:
    with kitelake.open(two_days) as lake:
        yield lake


@pytest.fixture(scope="module")
def restricted(two_days: Path) -> Iterator[kitelake.Lake]:
    with kitelake.open(two_days, restricted=True) as lake:
        yield lake


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask",
    [
        lambda lake: lake.ticks("NSE:INFY"),
        lambda lake: lake.bars("NSE:INFY", "5m"),
        lambda lake: lake.bars("NSE:INFY", "1h", fill="previous", clock="received"),
        lambda lake: lake.bars("NSE:INFY", "50 ticks"),
        lambda lake: lake.trades("NSE:INFY"),
        lambda lake: lake.latest(moment=DAYS[1]),
        lambda lake: lake.books("NSE:*", DAYS[1]),
        lambda lake: lake.find(["NSE:INFY", "NSE:INFI"]).rows,
        lambda lake: lake.asof(lake.trades("NSE:INFY"), "quotes", tolerance=5.0),
        lambda lake: lake.markout(lake.trades("NSE:INFY", DAYS[1]), [1, 60]),
        lambda lake: lake.returns("NSE:INFY", "5m"),
        lambda lake: lake.futures("NIFTY", DAYS[1]),
        lambda lake: lake.chain("NIFTY", DAYS[1]),
        lambda lake: lake.coverage(DAYS[1]),
        lambda lake: lake.gaps(DAYS[1]),
        lambda lake: lake.latency(DAYS[1]),
        lambda lake: lake.sql("FROM bars('NSE:INFY', width := '1h')"),
        lambda lake: lake.sql("SELECT count(*) FROM trades"),
    ],
)
def test_helpers_answer_in_a_restricted_lake_as_in_any(
    lake: kitelake.Lake, restricted: kitelake.Lake, ask: Callable[[kitelake.Lake], Result]
) -> None:
    expected = ask(lake).arrow()
    assert len(expected)
    assert ask(restricted).arrow().equals(expected)


@pytest.mark.slow
@pytest.mark.parametrize("macro", ["bars", "ticks", "latest", "book"])
def test_a_macro_whose_parameter_is_of_another_table_says_what_to_write(lake: kitelake.Lake, macro: str) -> None:
    with pytest.raises(QueryError, match=r"take its parameters from another table.*: give them as values") as caught:
        lake.sql(f"from (values ('NSE:INFY')) t(s), {macro}(t.s)").arrow()
    assert len(str(caught.value).splitlines()) == 2
    assert lake.sql("select count(*) as n from ticks('NSE:INFY')").arrow()["n"][0].as_py()


@pytest.mark.slow
def test_helpers_of_several_threads_take_turns(two_days: Path) -> None:
    many, some = scaled(6, 12), scaled(2, 4)
    with kitelake.open(two_days) as lake, ThreadPoolExecutor(4) as pool:
        expected = lake.bars("NSE:INFY", "1m").arrow()
        asked = [pool.submit(lambda: lake.bars("NSE:INFY", "1m").arrow()) for _ in range(many)]
        asked += [pool.submit(lambda: lake.chain("NIFTY", DAYS[1]).arrow()) for _ in range(some)]
        found = [each.result() for each in asked]
    assert all(each.equals(expected) for each in found[:many])
    assert all(each.equals(found[many]) for each in found[many:])


@pytest.mark.parametrize("name", ["adapters", "compat", "replay"])
def test_modules_are_there_after_import_kitelake(name: str) -> None:
    assert name in dir(kitelake)
    assert kitelake.__getattr__(name) is importlib.import_module(f"kitelake.{name}")
