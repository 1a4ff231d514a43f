"""SQL as text: names that are fixed, EXPLAIN, and statements that would write into the data folder."""

import itertools
import os
from pathlib import Path

import pytest

from queries.errors import ProtectedFolderError, QueryError
from queries.lake.lake import SqlLake
from queries.lake.statements import explained
from storage.layout import DataLayout
from tests.support.lake import ToyDecoder, ToyWriter
from tests.support.lake_queries import rows
from tests.support.scaled import scaled


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlLake:
    """A lake in which nothing is, and the working folder beside it, with a link to it."""
    DataLayout(tmp_path / "data").journal.mkdir(parents=True)
    (tmp_path / "data" / "ticks").mkdir()
    (tmp_path / "data-2").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "file.csv").symlink_to(tmp_path / "data" / "file.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return SqlLake(tmp_path / "data", ToyDecoder())


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


INSIDE = [
    "copy (select 1) to '{}'",
    "CoPy (select 'to' as \"to\", 1 as a) To '{}' (format parquet, use_tmp_file false)",
    "copy /* to 'x.csv' */ (select 1) -- to 'y.csv'\n to '{}' with (header)",
    "copy (select 1 as a) to '{}' (format parquet, partition_by (a))",
    "copy mine (a) to '{}'",
    "copy (select 1) to ('' || '{}')",
    "explain analyze copy (select 1) to '{}'",
    "prepare p as copy (select 1) to '{}'",
    "select 1; copy (select 1) to '{}'; select 2",
    "set variable p = '{}'; copy (select 1) to (getvariable('p'))",
    "attach '{}'",
    "attach or replace database '{}' as x (read_only)",
    "attach if not exists 'duckdb:{}' as other",
    "set variable p = '{}'; attach getvariable('p') as x",
    "attach ('' || '{}') as x; create table x.t as select 1",
    "export database '{}'",
    "export database memory to '{}' (format parquet)",
]
PATHS = [
    "{root}/new",
    "{root}/ticks/new.csv",
    "{root}",
    "data/new.csv",
    "./data-2/../data/new.csv",
    "link/new.csv",
    "link/../data/new.csv",
    "file.csv",
    "~/data/new.csv",
    "file:{root}/new.csv",
    "file://{root}/new.csv",
    "file://localhost{root}/new.csv",
]


@pytest.mark.slow
def test_nothing_is_written_into_the_data_folder(bare: SqlLake, tmp_path: Path) -> None:
    bare.sql("create table mine as select 1 as a")
    before = everything(tmp_path)
    # Every fifth of twelve paths a statement: all statements and all paths.
    for statement, path in itertools.islice(itertools.product(INSIDE, PATHS), 0, None, scaled(5, 1)):
        with pytest.raises(ProtectedFolderError, match=r"got a path in the data folder .*; choose one outside"):
            bare.sql(statement.format(path.format(root=bare.root)))
        assert everything(tmp_path) == before, (statement, path)


def test_nor_through_parameters(bare: SqlLake, tmp_path: Path) -> None:
    before = everything(tmp_path)
    for query, params in (
        ("copy (select 1) to $path", {"path": "data/x.csv"}),
        ("copy (select $path) to $path", {"path": "data/x.csv"}),
        ("copy (select $a) to ($path || '.csv')", {"path": "data/x", "a": 1}),
        ("copy (select ?) to ?", [1, "data/x.csv"]),
        ("copy (select $1) to $2", [1, "data/x.csv"]),
        ("attach ? as x", ["data/x.db"]),
    ):
        with pytest.raises(ProtectedFolderError, match="got a path in"):
            bare.sql(query, params)
    for query in ("prepare p as copy (select 1) to $1", "copy (select 1) to (nosuch('x'))"):
        with pytest.raises(ProtectedFolderError, match="cannot be known before the statement runs"):
            bare.sql(query)
    assert everything(tmp_path) == before


def test_nor_by_several_files_from_above(bare: SqlLake, tmp_path: Path) -> None:
    with pytest.raises(ProtectedFolderError):
        bare.sql(f"copy (select 1 as a, 2 as b) to '{tmp_path}' (format parquet, partition_by (a), overwrite true)")


@pytest.mark.skipif(not Path("/proc").exists() or os.sep != "/", reason="a file system that tells cases apart")
def test_another_case_is_another_folder_here(bare: SqlLake, tmp_path: Path) -> None:
    (tmp_path / "DATA").mkdir()
    bare.sql("copy (select 1) to 'DATA/x.csv'")
    assert (tmp_path / "DATA" / "x.csv").exists()


def test_a_folder_that_the_file_system_takes_for_the_same_is_the_same(
    bare: SqlLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it knows no cases: the same folder by another name."""
    same = Path.samefile
    monkeypatch.setattr(Path, "samefile", lambda self, other: same(Path(str(self).replace("DATA", "data")), other))
    with pytest.raises(ProtectedFolderError):
        bare.sql("copy (select 1) to 'DATA/x.csv'")


@pytest.mark.parametrize(
    "statement",
    [
        "copy (select 1 as a) to 'data-2/x.csv'",
        'copy (select 1 as a) to "x.csv"',
        "copy (select 1 as a, 2 as b) to 'x' (format parquet, partition_by (a))",
        "copy (select 1 as a) to ('x' || '.csv')",
        "attach 'x.db'; create table x.t as select 1; detach x",
        "attach ':memory:' as other",
        "attach 'x.db' as x (read_only false)",
        "export database 'exported'",
        "prepare p as copy (select 1 as a) to 'x.csv'; execute p",
        "explain copy (select 1 as a) to 'x.csv'",
        'create table "data/x" as select 1 as a; copy "data/x" to \'x.csv\'',
        "copy (select 1 as a) to 'x.csv'; create table t (a int); copy t from 'x.csv'",
        "attach ':memory:' as a; attach ':memory:' as b; copy from database a to b",
    ],
)
def test_elsewhere_it_may_do_whatever_duckdb_may(bare: SqlLake, tmp_path: Path, statement: str) -> None:
    before = everything(tmp_path / "data")
    bare.sql(statement).arrow()
    assert everything(tmp_path / "data") == before


@pytest.mark.parametrize(
    ("query", "head"),
    [
        ("explain select 1", "explain"),
        ("EXPLAIN ANALYZE select 1", "EXPLAIN ANALYZE"),
        ("explain (analyze, format json) select 1", "explain (analyze, format json)"),
        ("explain (select 1)", "explain"),
        ("explain (format json) (select 1)", "explain (format json)"),
        ("-- é\n explain select 1", "    \n explain"),
        ("select 'explain'", ""),
    ],
)
def test_an_explain_is_told_from_what_it_explains(query: str, head: str) -> None:
    assert explained(query)[0] == head


def test_an_explain_sees_the_state_of_its_call(lake: SqlLake, half: ToyWriter) -> None:
    ((_, plan),) = rows(lake, "explain (format json) select count(*) from ticks -- all")
    assert "READ_PARQUET" in str(plan)
    with pytest.raises(QueryError, match='column "nosuch" not found'):
        lake.sql("explain select nosuch from ticks")


def test_a_semicolon_is_found_behind_letters_of_several_bytes(lake: SqlLake) -> None:
    assert rows(lake, "with a as (select 'नमस्ते;' as x) select x from a, (select count(*) from ticks); -- é;") == [
        ("नमस्ते;",)
    ]


def test_connect_is_not_watched_over(bare: SqlLake, tmp_path: Path) -> None:
    with bare.connect() as con:
        con.execute("copy (select 1) to 'data/x.csv'")
    assert (tmp_path / "data" / "x.csv").exists()
