"""A look: the tables that are asked for, as of one moment, and no others."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from queries.lake.lake import SqlLake
from queries.tail.snapshot import Snapshots, TableSource
from queries.tail.tail import Tail
from queries.tail.ticks import LiveTicks
from storage import schema
from storage.layout import DataLayout
from storage.tables import write_instruments
from storage.tables.table import LakeTable
from tests.support.lake import INFY, NIFTY_FUT, Feed, ToyDecoder, ToyWriter

STREAM = "20261123T034500-aaaaaa"
DAY = datetime.date(2026, 11, 23)


def instruments(**names: int) -> pa.Table:
    """A list that gives these tokens these names."""
    rows = [{"instrument_token": token, "symbol": f"NSE:{name}"} for name, token in names.items()]
    return pa.Table.from_pylist(rows, schema=schema.INSTRUMENTS.file_schema)


def symbols(source: TableSource) -> list[str | None]:
    """The symbols of the live ticks."""
    assert isinstance(source.live, LiveTicks)
    return [name for part in source.live.parts for name in source.live.decode(part, ["symbol"])["symbol"].to_pylist()]


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    with Feed(tmp_path, STREAM) as feed:
        yield feed


@pytest.fixture
def snapshots(tmp_path: Path, feed: Feed) -> Snapshots:
    feed.tick((INFY, 1), (NIFTY_FUT, 2))
    feed.event("connected")
    feed.flush()
    return Snapshots(DataLayout(tmp_path), ToyDecoder())


def forbid(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    def called(*_: object, **__: object) -> None:
        raise AssertionError(f"{owner.__name__}.{name} was called")

    monkeypatch.setattr(owner, name, called)


def test_only_what_is_named_is_looked_at(snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [source.spec.name for source in snapshots.look(["events", "ticks"])] == ["ticks", "events"]
    forbid(monkeypatch, Tail, "read")
    assert [source.spec.name for source in snapshots.look(["instruments"])] == ["instruments"]
    forbid(monkeypatch, LakeTable, "open")
    assert snapshots.look([]) == []


def test_a_query_that_names_no_table_reads_nothing(tmp_path: Path, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    feed.tick((INFY, 1))
    feed.flush()
    with SqlLake(tmp_path, ToyDecoder()) as lake:
        with monkeypatch.context() as patched:
            forbid(patched, Snapshots, "look")
            assert lake.sql("select 1 as one").arrow().to_pylist() == [{"one": 1}]
            columns = "select * from information_schema.columns where table_name = 'tick' || 's'"
            assert lake.sql(columns).count() == len(schema.TICKS.columns) + 1
        with monkeypatch.context() as patched:
            forbid(patched, Tail, "read")
            assert lake.sql("select count(*) as n from instruments").arrow().to_pylist() == [{"n": 0}]
        # What the user makes may name tables that a later query does not name.
        lake.sql("create view mine as select count(*) as n from ticks")
        feed.tick((INFY, 2))
        feed.flush()
        assert lake.sql("from mine").arrow().to_pylist() == [{"n": 2}]
        assert lake.sql("from query('select count(*) as n from ' || 'ticks')").arrow().to_pylist() == [{"n": 2}]


def test_what_did_not_change_is_the_same_object(snapshots: Snapshots, feed: Feed) -> None:
    early = {source.spec.name: source for source in snapshots.look()}
    feed.tick((INFY, 3))
    feed.flush()
    late = {source.spec.name: source for source in snapshots.look()}
    assert {name for name in early if late[name] is early[name]} == set(schema.TABLES) - {"ticks"}
    assert (len(early["ticks"].live), len(late["ticks"].live)) == (2, 3)


def test_symbols_are_those_of_the_look(tmp_path: Path, snapshots: Snapshots) -> None:
    layout = DataLayout(tmp_path)
    write_instruments(layout, DAY, instruments(INFY=INFY))
    (early,) = snapshots.look(["ticks"])
    write_instruments(layout, DAY, instruments(OTHER=INFY, NIFTY=NIFTY_FUT))
    (late,) = snapshots.look(["ticks"])
    assert symbols(late) == ["NSE:OTHER", "NSE:NIFTY"]
    assert symbols(early) == ["NSE:INFY", None]
    assert early.partitions == {("2026-11-23", "NSE"), ("2026-11-23", "NFO")}


def test_a_look_outlives_the_commit_of_what_it_saw(tmp_path: Path, snapshots: Snapshots, feed: Feed) -> None:
    feed.roll()
    (early,) = snapshots.look(["ticks"])
    writer = ToyWriter(tmp_path)
    writer.commit_all()
    (late,) = snapshots.look(["ticks"])
    assert (len(early.live), early.files) == (2, ())
    assert (len(late.live), len(late.files)) == (0, 2)
    assert symbols(early) == [None, None]
