"""Streams that are committed, to be rebuilt."""

import datetime
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from storage import schema
from storage.commit.decoder import Decoded, Decoder
from storage.commit.writer import SegmentWriter
from storage.journal import Block
from storage.layout import DataLayout
from storage.tables.symbols import SymbolLookup
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, NINE_FIFTEEN_NS, Feed, ToyDecoder
from tests.support.shared import made_once

OLD, NEW = "20261122T034500-aaaaaa", "20261123T034500-bbbbbb"
DAY, NEXT = datetime.date(2026, 11, 23), datetime.date(2026, 11, 24)
NAMES = ("events", "orders", "quarantine", "ticks")
Rows = dict[str, list[dict[str, Any]]]


class Failing(ToyDecoder):
    """Does not take one segment."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        if segment == self.bad:
            raise ZeroDivisionError("a bug of the decoder's")
        return super().decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)


def fill(feed: Feed, count: int, *, offset: int = 0) -> None:
    """A few segments, each with rows of every table and of several partitions."""
    for i in range(offset, offset + count):
        feed.event(f"event {i}")
        feed.tick((INFY, 100 * i), (CRUDE, i))
        feed.flush()
        feed.order(f"order {i // 2}")  # each twice
        feed.junk(b"junk %d" % i)
        feed.tick((NIFTY_FUT, 7 * i))
        feed.roll()


def commit(layout: DataLayout, decoder: Decoder | None = None) -> None:
    SegmentWriter(layout, decoder or ToyDecoder(), retry_seconds=0).run(poll_seconds=0.01, stop=threading.Event())


def table(layout: DataLayout, name: str) -> LakeTable:
    return LakeTable(layout.table(name), schema.TABLES[name]).open()


def rows_of(layout: DataLayout) -> Rows:
    """All rows of all tables, in the order of their keys."""
    found = {}
    for name in NAMES:
        rows = table(layout, name).read()
        found[name] = rows.sort_by([(key, "ascending") for key in schema.TABLES[name].key]).to_pylist()
    return found


def cheaper(rows: Rows) -> Rows:
    """The rows with a rupee less in each price."""
    return rows | {"ticks": [row | {"last_price": round(row["last_price"] - 1, 2)} for row in rows["ticks"]]}


@pytest.fixture(scope="session")
def two_streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a day of two dead streams, the second one into the next day; committed. To be copied."""
    return made_once(tmp_path_factory, "two streams", lambda root: _two_streams(DataLayout(root)))


def copy_of(folder: Path, layout: DataLayout) -> Rows:
    """Copy a data folder, with the times of its files. Returns the rows."""
    shutil.copytree(folder, layout.root)
    return rows_of(layout)


def _two_streams(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as old, Feed(layout.root, NEW) as new:
        fill(old, 3)
        fill(new, 1, offset=10)
        new.tick((INFY, 1))
        new.now_ns = NINE_FIFTEEN_NS + DAY_NS
        new.tick((INFY, 2))  # in the same segment as the one before
        new.event("another day")
        new.roll()
        fill(new, 1, offset=20)
    commit(layout)


def archive(layout: DataLayout) -> None:
    assert archive_committed(layout, ToyDecoder()).unverified == []
