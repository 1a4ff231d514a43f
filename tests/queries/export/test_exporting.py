"""An export is whole or not there, whatever ends it, and takes the place of nothing but an older one that it may."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from queries.errors import ExportError, QueryError
from queries.export import Choice, Export, Form, Progress
from queries.history import time_range
from queries.lake import SqlLake
from tests.support.lake import CRUDE, INFY, Feed, ToyDecoder

pytestmark = pytest.mark.slow  # tables are made for each test

ALL = Choice(time_range(None, None))
FORMS: tuple[Form, ...] = ("parquet", "csv", "duckdb")
KILLED = """
import os, signal, sys
from pathlib import Path
from queries.export import Choice, Export
from queries.history import time_range
from queries.lake import SqlLake
from tests.support.lake import ToyDecoder

def kill(at):
    if at.done:
        os.kill(os.getpid(), signal.SIGKILL)

lake = SqlLake(sys.argv[1], ToyDecoder())
Export(lake, Path(sys.argv[2]), "parquet", Choice(time_range(None, None))).write(kill)
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLake]:
    """Two partitions of ticks and one of events."""
    root = tmp_path_factory.mktemp("exported") / "data"
    with Feed(root, "one") as feed:
        feed.event("started")
        feed.tick((INFY, 150_000), (CRUDE, 600_000))
        feed.flush()
        with SqlLake(root, ToyDecoder()) as opened:
            yield opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", FORMS)
def test_it_tells_its_progress_and_leaves_nothing_beside(lake: SqlLake, out: Path, form: Form) -> None:
    told: list[Progress] = []
    assert Export(lake, out / "x", form, ALL).write(told.append) == {"ticks": 2, "instruments": 0, "events": 1}
    assert [(at.part.split()[0] if at.part else "", at.done, at.total, at.rows) for at in told] == [
        ("ticks", 0, 3, 0),
        ("ticks", 1, 3, 1),
        ("events", 2, 3, 2),
        ("", 3, 3, 3),
    ]
    assert names(out) == ["x"]


@pytest.mark.parametrize("form", FORMS)
def test_any_name_is_a_name(lake: SqlLake, out: Path, form: Form) -> None:
    """DuckDB takes some characters for patterns or partitions, and of databases what is behind a `?` for parameters."""
    folder = out / "a=b*"
    folder.mkdir()
    assert Export(lake, folder / "नाम [1]*= 'x'", form, ALL).write()["ticks"] == 2
    assert names(folder) == ["नाम [1]*= 'x'"]
    if form == "duckdb":
        with pytest.raises(ExportError, match=r"x\?: got a path with a `\?`"):
            Export(lake, folder / "x?", form, ALL)
    else:
        assert Export(lake, folder / "x?", form, ALL).write()["ticks"] == 2


@pytest.mark.parametrize("form", FORMS)
def test_a_disk_that_is_full_leaves_nothing(lake: SqlLake, out: Path, form: Form) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ExportError, match="x: cannot be written: "):
            Export(lake, out / "x", form, ALL).write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(out) == []


def test_what_is_interrupted_leaves_what_was_there(lake: SqlLake, out: Path) -> None:
    Export(lake, out / "x", "csv", ALL).write()
    before = names(out / "x")
    again = Export(lake, out / "x", "parquet", ALL, force=True)
    with pytest.raises(QueryError, match="interrupted"):
        again.write(lambda at: again.interrupt() if at.done == 1 else None)
    assert (names(out), names(out / "x")) == (["x"], before)
    assert (out / "x" / "ticks").is_dir()


def test_a_process_that_is_killed_leaves_nothing_under_the_name(lake: SqlLake, out: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, lake.root, out / "x"], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = names(out)
    assert left.startswith("x.")
    assert left.endswith(".new")
    Export(lake, out / "x", "parquet", ALL).write()
    assert names(out) == ["x", left]


@pytest.mark.parametrize("form", FORMS)
def test_it_replaces_only_what_it_is_told_to_and_may(lake: SqlLake, out: Path, form: Form) -> None:
    Export(lake, out / "x", form, ALL).write()
    with pytest.raises(ExportError, match="is there already, and stays as it is; --force replaces an older export"):
        Export(lake, out / "x", form, ALL)
    ticks = Choice(ALL.when, tables=["ticks"])
    assert Export(lake, out / "x", form, ticks, force=True).write() == {"ticks": 2}
    assert names(out) == ["x"]
    if form != "duckdb":
        assert names(out / "x") == ["README.md", "ticks"]
    (out / "mine").mkdir()
    (out / "mine" / "README.md").write_text("My letters")
    with pytest.raises(ExportError, match=r"got what is no (older export|file), expected"):
        Export(lake, out / "mine", form, ALL, force=True)
    assert names(out / "mine") == ["README.md"]


def test_what_appears_meanwhile_stays(lake: SqlLake, out: Path) -> None:
    def write(_: Progress) -> None:
        (out / "x").write_text("mine")

    with pytest.raises(ExportError, match="is there already"):
        Export(lake, out / "x", "duckdb", ALL).write(write)
    assert (out / "x").read_text() == "mine"


def test_not_into_the_data_folder_nor_around_it_nor_where_no_folder_is(lake: SqlLake, out: Path) -> None:
    (out / "link").symlink_to(lake.root)
    for place in (lake.root / "x", lake.root, lake.root.parent, out / "link" / "x", out / "link"):
        with pytest.raises(ExportError, match="got a place in or around the data folder"):
            Export(lake, place, "parquet", ALL, force=True)
    with pytest.raises(ExportError, match=r"none/x: there is no folder .*none"):
        Export(lake, out / "none" / "x", "parquet", ALL)


def test_nothing_to_export_makes_nothing(lake: SqlLake, out: Path) -> None:
    none = Choice(time_range("2020-01-01", None), tables=["ticks"])
    assert Export(lake, out / "x", "duckdb", none).write() == {"ticks": 0}
    assert names(out) == []


def test_tables_and_columns_that_there_are_not() -> None:
    with pytest.raises(QueryError, match=r"tables: got 'tick', expected some of ticks, instruments, orders"):
        Choice(ALL.when, tables=["tick"])
    with pytest.raises(QueryError, match="tables: got an empty list"):
        Choice(ALL.when, tables=[])
    with pytest.raises(QueryError, match="columns: got 'price', expected some of date"):
        Choice(ALL.when, columns=["price"])
