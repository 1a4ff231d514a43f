"""Streams to commit, and what of them is in the tables."""

import threading
from pathlib import Path

import pyarrow as pa

from storage import schema
from storage.commit.writer import SegmentCommitted, SegmentWriter
from storage.layout import DataLayout
from storage.tables.table import LakeTable
from tests.support.lake import CRUDE, INFY, NIFTY_FUT, Feed, ToyDecoder

OLD, NEW = "20261122T034500-aaaaaa", "20261123T034500-bbbbbb"


def commit_all(layout: DataLayout, **options: object) -> list[SegmentCommitted]:
    """Commit what is complete of all dead streams."""
    done: list[SegmentCommitted] = []
    writer = SegmentWriter(layout, ToyDecoder(), on_commit=done.append, retry_seconds=0, **options)  # type: ignore[arg-type]
    writer.run(poll_seconds=0.01, stop=threading.Event())
    return done


def table(layout: DataLayout, name: str) -> pa.Table:
    return LakeTable(layout.table(name), schema.TABLES[name]).open().read()


def ticks(layout: DataLayout) -> list[tuple[str, int, int, float]]:
    rows = table(layout, "ticks").sort_by([("stream", "ascending"), ("seq", "ascending")])
    names = ("stream", "seq", "instrument_token", "last_price")
    return list(zip(*(rows.column(name).to_pylist() for name in names), strict=True))


def column(layout: DataLayout, name: str, of: str) -> list[object]:
    return sorted(table(layout, name).column(of).to_pylist(), key=str)


def committed_files(layout: DataLayout) -> dict[str, int]:
    """The files that are in the tables, with what tells a file from one that was written in its place."""
    found = [
        LakeTable(layout.table(name), schema.TABLES[name]).open()
        for name in ("events", "orders", "quarantine", "ticks")
    ]
    return {path: Path(path).stat().st_ino for each in found for path in each.snapshot().files}


def fill(feed: Feed, segments_count: int, *, offset: int = 0) -> None:
    """A few segments, each with rows of every table and of several partitions."""
    for i in range(segments_count):
        feed.event(f"event {offset + i}")
        feed.tick((INFY, 100 * i), (CRUDE, i))
        feed.flush()
        feed.order(f"order {i // 2}")  # each twice
        feed.junk(b"junk %d" % (offset + i))
        feed.tick((NIFTY_FUT, 7 * i))
        feed.roll()


def check(layout: DataLayout, *feeds: Feed) -> None:
    """The tables hold what was journalled, each row once."""
    assert ticks(layout) == sorted(row for feed in feeds for row in feed.ticks)
    assert column(layout, "events", "event") == sorted(name for feed in feeds for _, name in feed.events)
    assert column(layout, "orders", "order_id") == sorted({name for feed in feeds for name in feed.orders})
    assert column(layout, "quarantine", "data") == sorted(bad for feed in feeds for bad in feed.bad)
