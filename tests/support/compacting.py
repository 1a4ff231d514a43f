"""Small partitions to compact, and a capture to do it beside."""

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from queries.lake.lake import SqlLake
from storage.commit.writer import SegmentWriter
from storage.files import DataFile
from storage.layout import DataLayout
from storage.schema import TABLES, TICKS, Table
from storage.tables.parquet import write_file
from storage.tables.table import LakeTable
from tests.support import works
from tests.support.lake import CRUDE, INFY, NIFTY_FUT, Feed, ToyDecoder
from tests.support.lives import Life

DAY = works.DAY
NSE = {"date": "2026-11-23", "exchange": "NSE"}
OPEN_US = 1_795_405_500_000_000  # 09:15 IST of that day
STREAM = "20261123T034500-aaaaaa"
SMALL = 256 << 20  # bytes of memory
STEPS = ("checked", "written", "compared", "moved", "committed")


def tick(seq: int, **values: Any) -> dict[str, Any]:
    """A row of ticks, a second after the one before."""
    usual = {"received_at": OPEN_US + seq * 1_000_000, "stream": STREAM, "seq": seq, "instrument_token": INFY}
    return dict.fromkeys(TICKS.file_schema.names) | usual | values


def put(
    layout: DataLayout, stem: str, rows: Sequence[dict[str, Any]], *, spec: Table = TICKS, values: dict[str, str] = NSE
) -> DataFile:
    """Write one file and commit it, without a transaction."""
    table = LakeTable(layout.table(spec.name), spec).open(create=True)
    content = pa.Table.from_pylist(list(rows), schema=spec.file_schema)
    staging = layout.staging / "test"
    file = write_file(spec, content, values=values, stem=stem, table_folder=table.path, staging=staging)
    table.commit([file])
    return file


def minutes_of_ticks(layout: DataLayout, *, files: int = 8) -> None:
    """A tick a second of three instruments in turn, a minute a file."""
    tokens = (CRUDE * 256 + 1, INFY, 256 + 1)
    for number in range(files):
        seqs = range(number * 60, number * 60 + 60)
        put(layout, f"{STREAM}-{number:010d}", [tick(seq, instrument_token=tokens[seq % 3]) for seq in seqs])


def stored(layout: DataLayout, spec: Table = TICKS) -> pa.Table:
    """All rows of a table in the order of its key."""
    rows = LakeTable(layout.table(spec.name), spec).open().read()
    return rows.sort_by([(name, "ascending") for name in spec.key])


def names(layout: DataLayout, spec: Table = TICKS) -> list[str]:
    """The file names in the newest version of a table."""
    return sorted(Path(path).name for path in LakeTable(layout.table(spec.name), spec).open().snapshot().files)


def kill_compact(layout: DataLayout, after_seconds: float) -> bool:
    """Begin to compact DAY, and kill it; whether it was still at work."""
    life = Life(works.compact, layout.root)
    time.sleep(after_seconds)  # the moment is the point: any will do
    life.kill()
    return life.wait()


class Capture:
    """A capture of some segments, its writer, and a reader that looks all the time, each in a thread of its own."""

    def __init__(self, layout: DataLayout, *, segments: int, pause_seconds: float) -> None:
        self.layout = layout
        self.feed = Feed(layout.root, STREAM)
        self.looks = 0
        self.errors: list[BaseException] = []
        self._segments = segments
        self._pause_seconds = pause_seconds
        self._flushed = 0
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,)) for work in (self._capture, self._write, self._read)
        ]

    def __enter__(self) -> "Capture":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.errors

    def _guard(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:
            self.errors.append(error)
            self._stop.set()

    def _capture(self) -> None:
        chance = random.Random(1)
        for _ in range(self._segments):
            for number in range(20):
                self.feed.tick(*((chance.choice((INFY, CRUDE, NIFTY_FUT)), chance.randrange(1, 10**6)),) * 3)
                self.feed.event(f"event {len(self.feed.events)}")
                if number == 0:
                    self.feed.order(f"order {len(self.feed.orders)}")
                    self.feed.junk(b"junk %d" % len(self.feed.bad))
            self.feed.roll()
            self._flushed = len(self.feed.ticks)
            if self._stop.wait(self._pause_seconds):
                break
        self._stop.wait()
        self.feed.writer.close()

    def _write(self) -> None:
        SegmentWriter(self.layout, ToyDecoder(), STREAM).run(poll_seconds=0.02, stop=threading.Event())

    def _read(self) -> None:
        query = (
            "select count(*) as n, count(distinct seq) as seqs, max(seq) + 1 as next, (select count(*) from events) e"
        )
        with SqlLake(self.layout.root, ToyDecoder()) as lake:
            while not self._stop.is_set():
                flushed = self._flushed
                (row,) = lake.sql(f"{query} from ticks").arrow().to_pylist()
                assert row["n"] == row["seqs"] == (row["next"] or 0), row
                assert row["n"] >= flushed
                assert row["n"] == 3 * row["e"], row
                self.looks += 1
                self._stop.wait(0.05)


def check(layout: DataLayout, feed: Feed) -> None:
    """The tables hold what was journalled, each row once."""
    ticks = stored(layout)
    columns = (ticks.column(name).to_pylist() for name in ("stream", "seq", "instrument_token", "last_price"))
    assert list(zip(*columns, strict=True)) == feed.ticks
    for name, column, expected in (
        ("events", "event", [name for _, name in feed.events]),
        ("orders", "order_id", feed.orders),
        ("quarantine", "data", feed.bad),
    ):
        assert stored(layout, TABLES[name]).column(column).to_pylist() == expected
