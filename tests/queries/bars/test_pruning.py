"""What is not asked for is not read: files by date and exchange, row groups by instrument and time, as DuckDB tells."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest

import kitelake
from queries.lake import SqlLake, forms
from tests.support.captured import CRUDE, INFY, NIFTY_FUT, Captured

pytestmark = pytest.mark.slow

DAYS = ("2026-11-23", "2026-11-24", "2026-11-25")
Query = Callable[[kitelake.Lake], Any]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kitelake.Lake]:
    """Three days of three exchanges, each in a file of a morning and one of an afternoon."""
    root = tmp_path_factory.mktemp("pruning") / "data"
    with Captured(root) as captured:
        line = captured.run("00:00:01").line()
        for number, day in enumerate(DAYS):
            captured.on(day).instruments()
            line.begin("08:50", INFY, NIFTY_FUT, CRUDE)
            for hour in ("10", "14"):
                for token in (INFY, NIFTY_FUT, CRUDE):
                    line.full(f"{hour}:00:01", token, 100, volume=10 * number + int(hour))
                captured.commit()
        with kitelake.open(root) as lake:
            yield lake


def scanned(lake: kitelake.Lake, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many files of ticks the query opens, and how many row groups it reads; it finds something in them.

    It may be several queries in one.
    """
    run, executed = SqlLake.run, forms.executed
    profiles = (tmp_path / f"profile-{number}.json" for number in count())

    def profile(con: duckdb.DuckDBPyConnection) -> None:
        con.execute(f"SET enable_profiling = 'json'; SET profiling_output = '{next(profiles)}'")

    def profiled(self: SqlLake, *args: Any) -> Any:
        result = run(self, *args)
        profile(self._con)
        return result

    def read(con: duckdb.DuckDBPyConnection, query: str, **options: Any) -> Any:
        profile(con)
        rows = executed(con, query, **options)
        profile(con)  # of what comes after it
        return rows

    query(lake).arrow()  # what it keeps for the next time is not counted
    monkeypatch.setattr(SqlLake, "run", profiled)
    monkeypatch.setattr("queries.lake.running.executed", read)
    try:
        rows = query(lake).arrow().to_pylist()
    finally:
        lake._con.execute("SET enable_profiling = 'no_output'")
    assert rows
    found = [json.loads(profile.read_text()) for profile in tmp_path.glob("profile-*.json")]
    scans = [each for one in found for node in one["operator"] for each in scans_of(node)]
    return max(files for files, _ in scans), max(groups for _, groups in scans)


def scans_of(node: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Files and row groups of each scan of ticks: rows that say their time and others are read apart."""
    info = node["extra_info"]
    if "last_price" in info.get("Projections", ()) and "Scanning Files" in info:
        yield int(info["Scanning Files"].partition("/")[0]), node["row_groups_scanned"]
    for child in node.get("children", ()):
        yield from scans_of(child)


@pytest.mark.parametrize(
    ("query", "most"),
    [
        (lambda lake: lake.ticks("NSE:INFY", "2026-11-24"), 2),
        (lambda lake: lake.sql("FROM ticks('NSE:INFY', start := '2026-11-24')"), 2),
        (lambda lake: lake.bars("NSE:INFY", "1m", "2026-11-24"), 2),
        (lambda lake: lake.sql("FROM bars('NSE:INFY', start := '2026-11-24')"), 2),
        (lambda lake: lake.bars(["NSE:INFY", "NFO:NIFTY26NOVFUT"], "1m", "2026-11-24"), 4),
        (lambda lake: lake.sql("FROM bars(['NSE:INFY', 'NFO:NIFTY26NOVFUT'], start := '2026-11-24')"), 4),
        (lambda lake: lake.sql("FROM bars('NSE:INFY')"), 6),
        (lambda lake: lake.trades("NSE:INFY", "2026-11-24"), 2),
        (lambda lake: lake.sql("FROM trades('NSE:INFY', start := '2026-11-24')"), 2),
    ],
)
def test_files_of_other_days_and_exchanges_are_not_opened(
    lake: kitelake.Lake, query: Query, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1 <= scanned(lake, query, tmp_path, monkeypatch)[0] <= most


@pytest.mark.parametrize(
    "query",
    [
        lambda lake: lake.ticks("NSE:INFY", "2026-11-24 13:00", "2026-11-24 15:00"),
        lambda lake: lake.sql("FROM ticks('NSE:INFY', start := '2026-11-24 13:00', stop := '2026-11-24 15:00')"),
        lambda lake: lake.bars("NSE:INFY", "1m", "2026-11-24", "2026-11-24 12:00", clock="received"),
    ],
)
def test_row_groups_of_other_times_are_not_read(
    lake: kitelake.Lake, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scanned(lake, query, tmp_path, monkeypatch)[1] == 1
