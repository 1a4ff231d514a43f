"""What a lake gives away, and what it finds in its folder; what a process pays that opens one."""

import os
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest

from queries.errors import NoLakeError
from queries.lake.lake import SqlLake
from storage.errors import DataFolderError
from tests.support.lake import CRUDE, INFY, Feed, ToyDecoder, ToyWriter
from tests.support.lake_queries import STREAM, TICKS, rows
from tests.support.waiting import PATIENCE_SECONDS


class TestConnect:
    def test_gives_a_database_of_its_own(self, lake: SqlLake, half: ToyWriter, feed: Feed) -> None:
        with lake.connect() as con:
            feed.tick((INFY, 1))
            feed.flush()
            lake.close()
            assert con.sql("select count(*) from ticks").fetchall() == [(6,)]
            assert con.cursor().sql("select count(*) from ticks").fetchall() == [(6,)]
            assert con.sql("show tables").fetchall() == [(name,) for name in lake.tables]
            shown = con.sql("select min(received_at)::varchar from ticks").fetchall()
            assert shown == [("2026-11-23 09:15:00+05:30",)]


class TestFolder:
    def test_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(NoLakeError, match=r"there is no such folder.*kitelake demo"):
            SqlLake(tmp_path / "nothing", ToyDecoder())

    def test_that_cannot_be_one(self) -> None:
        with pytest.raises(NoLakeError, match=r"^'.*x00': got no path"):
            SqlLake("\0", ToyDecoder())

    def test_that_is_empty(self, tmp_path: Path) -> None:
        with pytest.raises(NoLakeError, match=r"is empty.*kitelake demo"):
            SqlLake(tmp_path, ToyDecoder())

    def test_that_is_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        with pytest.raises(NoLakeError, match="got a file"):
            SqlLake(path, ToyDecoder())

    def test_that_is_something_else(self, tmp_path: Path) -> None:
        for number in range(7):
            (tmp_path / f"{number}.txt").touch()
        with pytest.raises(DataFolderError, match=r"got a folder with 0.txt, .*4.txt, …; expected a data folder"):
            SqlLake(tmp_path, ToyDecoder())

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name", ["with space", 'o\'clock "x"', "a=b", "date=2020-01-01", "exchange=X", "[ab]*?", "नमस्ते", "{a,b}", "~"]
    )
    def test_with_a_strange_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "aX").mkdir()
        root = tmp_path / name
        with Feed(root, STREAM) as feed, SqlLake(root, ToyDecoder()) as lake:
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
            html = lake._repr_html_()
            assert html is not None
            assert f"<th>{escape(repr(lake))}</th>" in html
            assert "<td>ticks</td><td>3</td><td>1</td><td>2026-11-23</td><td>2026-11-23</td>" in html
            assert "<td>orders</td><td>0</td><td>0</td><td>–</td><td>–</td>" in html

    def test_is_not_written_to(self, tmp_path: Path, feed: Feed, half: ToyWriter) -> None:
        def state() -> dict[str, tuple[int, int]]:
            return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}

        before = state()
        with SqlLake(tmp_path, ToyDecoder()) as lake:
            assert rows(lake, TICKS) == feed.ticks
            with lake.connect() as con:
                con.sql("from orders").to_arrow_table()
        assert state() == before

    def test_that_is_relative_stays_where_it_was(
        self, tmp_path: Path, feed: Feed, half: ToyWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path.parent)
        with SqlLake(tmp_path.name, ToyDecoder()) as lake:
            monkeypatch.chdir("/")
            assert rows(lake, TICKS) == feed.ticks


LIGHT = """
import sys
import queries.lake.lake
import kitelake
kitelake.Lake
heavy = {"pandas", "polars", "pyarrow.dataset", "pyarrow.compute", "pyarrow.parquet", "deltalake", "filelock", "rich",
    "plotext", "asyncio", "ssl", "pydantic", "queries.feed.feed"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from tests.support.lake import ToyDecoder
lake = queries.lake.lake.SqlLake(sys.argv[1], ToyDecoder())
table = lake.sql("select seq, received_at, date::varchar as day from ticks order by seq").arrow()
assert "polars" not in sys.modules
print(table.schema.field("received_at").type, *table["seq"].to_pylist(), *set(table["day"].to_pylist()))
print(lake.sql("select min(received_at)::varchar, min(hour(received_at)) from ticks").arrow().to_pylist())
"""


@pytest.mark.slow
def test_nothing_is_said_at_the_end_of_a_process_that_read_no_rows() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import queries.lake.lake"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert done.stderr == ""


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
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == "timestamp[us, tz=Asia/Kolkata] 0 1 2 2026-11-23"
    assert "2026-11-23 09:15:00+05:30" in second
    assert ": 9}" in second
