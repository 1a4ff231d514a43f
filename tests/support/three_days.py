"""A data folder of three days of one stream, committed, with a journal that has all of it."""

import datetime as dt
import os
import shutil
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

import kitelake
from ingest.wire.journal import JournalDecoder
from storage.clock import IST
from storage.commit.writer import SegmentWriter
from storage.journal import JournalWriter, Kind, segments
from storage.layout import DataLayout
from storage.schema import TICKS
from storage.tables.table import LakeTable
from tests.support.lake import CRUDE, INFY
from tests.support.shared import made_once

TODAY = dt.datetime.now(IST).date()
DAYS = [TODAY - dt.timedelta(days=ago) for ago in (40, 3, 1)]
STREAM = f"{DAYS[0]:%Y%m%d}T034500-aaaaaa"
SEGMENTS_A_DAY = 3


@pytest.fixture(scope="session")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> DataLayout:
    """Three days of one stream, each of three segments with ticks of two exchanges and an event, committed."""
    return DataLayout(made_once(tmp_path_factory, "maintenance", _capture))


def _capture(root: Path) -> None:
    layout = DataLayout(root)
    journal = JournalWriter(layout, STREAM, segment_seconds=1e9)
    channel = journal.channel("one", 1)
    written: dict[int, float] = {}
    for day in DAYS:
        noon = dt.datetime.combine(day, dt.time(12), IST).timestamp()
        for part in range(SEGMENTS_A_DAY):
            for number in range(20):
                packets = b"".join(struct.pack(">HIi", 8, token, 100 * part + number) for token in (INFY, CRUDE))
                at = int(noon + part) * 10**9 + number
                journal.append(Kind.BINARY, channel, at, struct.pack(">H", 2) + packets)
            journal.append(Kind.EVENT, 0, at, b'{"event": "started", "message": null, "data": null}')
            journal.flush()
            written[journal.segment] = noon
            journal.segment_bytes = 0
            journal.flush()
            journal.segment_bytes = 1 << 20
    journal.close()
    for segment in segments(layout, STREAM):
        noon = written.get(segment, noon)
        os.utime(layout.segment(STREAM, segment), (noon, noon))
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())


@pytest.fixture
def layout(tmp_path: Path, three_days: DataLayout) -> DataLayout:
    """A copy of them, for one test."""
    shutil.copytree(three_days.root, tmp_path / "data")
    return DataLayout(tmp_path / "data")


def rows(layout: DataLayout) -> list[dict[str, Any]]:
    with kitelake.open(layout.root) as lake:
        found: list[dict[str, Any]] = lake.sql("select * from ticks order by stream, seq").arrow().to_pylist()
        return found


def live(layout: DataLayout, day: dt.date) -> list[Path]:
    """The files of a day's ticks in the newest version of the table."""
    table = LakeTable(layout.table(TICKS.name), TICKS).open()
    return [table.path / e.relative for e in table.snapshot().entries if e.values["date"] == day.isoformat()]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x40
    path.write_bytes(data)
