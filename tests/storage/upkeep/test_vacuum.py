"""What is unlinked: files that the log removed long ago, and what dead runs left; never what may yet be named."""

import datetime
import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from storage.commit.writer import SegmentWriter
from storage.errors import TableError
from storage.layout import DataLayout
from storage.schema import INSTRUMENTS, TICKS
from storage.tables.symbols import write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.compact import compact_day
from storage.upkeep.vacuum import vacuum_tables
from tests.support.compacting import DAY, NSE, SMALL, STREAM, names, put, stored, tick
from tests.support.lake import INFY, Feed, ToyDecoder

pytestmark = pytest.mark.slow  # tables are made for each test

FOLDER = "date=2026-11-23/exchange=NSE"
DEAD = "20261122T034500-bbbbbb"


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


def after(**time: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(**time)


def lying(layout: DataLayout) -> list[str]:
    """The files that lie in the folder of the partition."""
    return sorted(path.name for path in (layout.table("ticks") / FOLDER).iterdir())


def leave(layout: DataLayout, name: str, *, age: datetime.timedelta) -> Path:
    """A file that no version names, as a process that died before its commit leaves one."""
    path = layout.table("ticks") / FOLDER / name
    path.write_bytes(b"PAR1")
    written_at = (datetime.datetime.now(datetime.UTC) - age).timestamp()
    os.utime(path, (written_at, written_at))
    return path


class TestRemovedFiles:
    def test_they_go_when_the_grace_time_is_over(self, layout: DataLayout) -> None:
        for name in "abc":
            put(layout, name, [tick(ord(name))])
        compact_day(layout, DAY, memory_bytes=SMALL)
        before, rows = lying(layout), stored(layout)
        assert vacuum_tables(layout, now=after(minutes=59)) == 0
        assert lying(layout) == before
        assert vacuum_tables(layout, now=after(minutes=61)) == 3
        assert lying(layout) == names(layout)
        assert stored(layout).equals(rows)
        assert vacuum_tables(layout, now=after(days=100)) == 0

    def test_those_of_a_day_that_goes_on_stay(self, layout: DataLayout) -> None:
        old = {"date": "2026-11-22", "exchange": "NSE"}
        for values in (NSE, old):
            put(layout, "a", [tick(0)], values=values)
            compact_day(layout, datetime.date.fromisoformat(values["date"]), memory_bytes=SMALL)
        before = lying(layout)
        assert vacuum_tables(layout, keep=DAY, now=after(hours=20)) == 1, "that of the other day"
        assert lying(layout) == before
        assert vacuum_tables(layout, keep=DAY + datetime.timedelta(days=1), now=after(hours=20)) == 1
        assert len(lying(layout)) == len(before) - 1

    def test_the_grace_time_is_the_callers(self, layout: DataLayout) -> None:
        put(layout, "a", [tick(0)])
        compact_day(layout, DAY, memory_bytes=SMALL)
        assert vacuum_tables(layout, grace=datetime.timedelta(hours=3), now=after(hours=2)) == 0
        assert vacuum_tables(layout, grace=datetime.timedelta(0), now=after(seconds=1)) == 1

    def test_a_reader_of_the_version_before_finishes(self, layout: DataLayout) -> None:
        put(layout, "a", [tick(0)])
        put(layout, "b", [tick(1)])
        old = LakeTable(layout.table("ticks"), TICKS).open().snapshot()
        compact_day(layout, DAY, memory_bytes=SMALL)
        vacuum_tables(layout, now=after(minutes=50))
        assert all(Path(path).exists() for path in old.files)

    def test_a_file_that_is_in_the_table_again_stays(self, layout: DataLayout) -> None:
        file = put(layout, "a", [tick(0)])
        put(layout, "b", [tick(1)])
        LakeTable(layout.table("ticks"), TICKS).open().commit([], remove=[file])
        put(layout, "a", [tick(0)])
        assert vacuum_tables(layout, now=after(days=100)) == 0
        assert stored(layout).num_rows == 2

    def test_a_file_that_was_written_again_and_is_not_committed_yet_stays(self, layout: DataLayout) -> None:
        file = put(layout, "a", [tick(0)])
        LakeTable(layout.table("ticks"), TICKS).open().commit([], remove=[file])
        leave(layout, "a.parquet", age=-datetime.timedelta(minutes=1))
        assert vacuum_tables(layout, now=after(hours=2)) == 0
        assert lying(layout) == ["a.parquet"]

    def test_replaced_instrument_lists_go_too(self, layout: DataLayout) -> None:
        put(layout, "a", [tick(0)])
        for price in (1.0, 2.0):
            row = dict.fromkeys(INSTRUMENTS.file_schema.names) | {"instrument_token": INFY, "symbol": "NSE:INFY"}
            content = pa.Table.from_pylist([row | {"last_price": price}], schema=INSTRUMENTS.file_schema)
            write_instruments(layout, DAY, content)
        table = LakeTable(layout.table("instruments"), INSTRUMENTS).open()
        assert vacuum_tables(layout, now=after(hours=2)) == 1
        assert [str(path) for path in table.path.glob("date*/*")] == table.snapshot().files
        assert table.read().column("last_price").to_pylist() == [2.0]

    def test_a_log_that_cannot_be_read_removes_nothing(self, layout: DataLayout) -> None:
        put(layout, "a", [tick(0)])
        compact_day(layout, DAY, memory_bytes=SMALL)
        before = lying(layout)
        log = layout.table("ticks") / "_delta_log/00000000000000000001.json"
        log.write_text(log.read_text() + "{")
        with pytest.raises(TableError):
            vacuum_tables(layout, now=after(days=1))
        assert lying(layout) == before


class TestAbandonedFiles:
    def committed(self, layout: DataLayout) -> None:
        """Two segments of a stream, committed."""
        with Feed(layout.root, DEAD) as feed:
            feed.tick((INFY, 1))
            feed.roll()
            feed.tick((INFY, 2))
        SegmentWriter(layout, ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event())

    @pytest.mark.parametrize(
        ("name", "hours", "goes"),
        [
            (f"{DEAD}-0000000001.parquet", 25, False),  # it is in the table
            (f"{DEAD}-0000000002.parquet", 25, False),  # not committed yet
            (f"{STREAM}-0000000000.parquet", 25, False),  # of a stream that has nothing committed yet
            (f"{DEAD}-0000000000-r1f.parquet", 25, True),
            (f"{DEAD}-0000000000-r1f.parquet", 23, False),
            ("sealed-0123456789abcdef-0001-of-0001.parquet", 0, True),
            ("somebody's own.parquet", 1000, False),
        ],
    )
    def test_only_those_that_nobody_will_name(self, layout: DataLayout, name: str, hours: int, goes: bool) -> None:
        self.committed(layout)
        before = set(names(layout))
        if name not in before:
            leave(layout, name, age=datetime.timedelta(hours=hours))
        assert vacuum_tables(layout, now=after()) == int(goes)
        assert set(lying(layout)) == before | (set() if goes else {name})

    def test_the_file_of_a_segment_that_was_committed_without_it(self, layout: DataLayout) -> None:
        self.committed(layout)
        path = leave(layout, f"{DEAD}-0000000001.parquet", age=datetime.timedelta(hours=25))
        other = path.parent.with_name("exchange=BSE") / path.name
        other.parent.mkdir()
        path.replace(other)
        assert vacuum_tables(layout, now=after()) == 1
        assert not other.exists()

    def test_what_a_dead_run_staged_goes(self, layout: DataLayout) -> None:
        spill = layout.staging / "seal/spill/duckdb_temp_storage-0.tmp"
        spill.parent.mkdir(parents=True)
        spill.write_bytes(b"x")
        writers = layout.staging / "writer/file"
        writers.parent.mkdir()
        writers.write_bytes(b"x")
        assert vacuum_tables(layout, now=after()) == 0
        assert not (layout.staging / "seal").exists()
        assert writers.exists()
