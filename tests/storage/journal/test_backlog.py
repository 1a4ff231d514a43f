"""What waits in memory is bounded, and what is lost is accounted for."""

import contextlib
import errno
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.errors import JournalWriteError
from storage.journal import JournalWriter, Kind, SegmentReader, segments
from storage.journal.backlog import Backlog, Loss
from storage.layout import DataLayout

STREAM = "20261123T034500-aaaaaa"
MOST = 10_000


class Disk:
    """Takes writes while it is `well`, by standing between the journal's writer and the file."""

    def __init__(self) -> None:
        self.well = True

    def write_all(self, file: object, data: bytes | bytearray) -> None:
        if not self.well:
            raise OSError(errno.ENOSPC, "No space left on device")
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]  # type: ignore[attr-defined]


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    with patch("storage.journal.segment._write_all", disk.write_all):
        yield disk


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path)


@pytest.fixture
def journal(layout: DataLayout, disk: Disk) -> Iterator[JournalWriter]:
    journal = JournalWriter(layout, STREAM)
    yield journal
    disk.well = True
    journal.close()


def frame(packets: int, size: int = 100) -> bytes:
    return packets.to_bytes(2, "big") + bytes(size - 2)


def written(layout: DataLayout) -> Iterator[tuple[Kind, str, int, int]]:
    """Kind, account, connection and packets of every record that is in the segments."""
    for number in segments(layout, STREAM):
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            for block in reader.read():
                for kind in (Kind.BINARY, Kind.TEXT, Kind.EVENT):
                    for at, payload in block.payloads(kind):
                        channel = block.channel_table[int(block.channels[at])]
                        count = int.from_bytes(payload[:2], "big") if kind is Kind.BINARY else 0
                        yield kind, channel.account, channel.connection, count


def test_what_fits_is_kept_and_what_does_not_is_counted(
    layout: DataLayout, journal: JournalWriter, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes and however often the disk fails: written and lost frames of a connection are what came."""
    monkeypatch.setattr("storage.journal.backlog.MEASURE_SECONDS", 0.0)  # at each look
    chance = random.Random(3)
    sink = Backlog(journal, MOST)
    channels = {(name, number): sink.channel(name, number) for name in ("asha", "ravi") for number in (1, 2)}
    came: Counter[tuple[str, int]] = Counter()
    packets: Counter[tuple[str, int]] = Counter()
    lost: Counter[tuple[str, int]] = Counter()
    lost_packets: Counter[tuple[str, int]] = Counter()
    spans = []
    others = 0
    for now in range(3_000):
        disk.well = (now // 200) % 2 == 0
        key = chance.choice(list(channels))
        count = chance.randrange(1, 300)
        sink.append(Kind.BINARY, channels[key], now, frame(count))
        came[key] += 1
        packets[key] += count
        if now % 10 == 0:
            sink.append(Kind.TEXT, channels[key], now, b"text")
            sink.append(Kind.EVENT, channels[key], now, b"{}")
            others += 2
            with contextlib.suppress(JournalWriteError):
                journal.flush()
            sink.look()
            assert journal.buffered_bytes <= MOST + 10 * 110, "no more than came between two looks"
            if not sink.full:
                for loss in sink.settle():
                    lost[loss.account, loss.connection] += loss.frames
                    lost_packets[loss.account, loss.connection] += loss.packets
                    assert loss.bytes == 100 * loss.frames
                    spans.append((loss.first_ns, loss.last_ns))
    disk.well = True
    journal.flush()
    assert not sink.settle()
    there = list(written(layout))
    kept = Counter((account, number) for kind, account, number, _ in there if kind is Kind.BINARY)
    kept_packets: Counter[tuple[str, int]] = Counter()
    for _, account, number, count in there:
        kept_packets[account, number] += count
    assert kept + lost == came
    assert kept_packets + lost_packets == packets
    assert min(lost.values()) > 100
    assert sum(kind is not Kind.BINARY for kind, *_ in there) == others, "events and texts are always kept"
    assert all((first // 200) % 2 == 1 and first <= last < first + 200 for first, last in spans), "by the time"


def test_heartbeats_are_no_loss(journal: JournalWriter, disk: Disk) -> None:
    sink = Backlog(journal, MOST)
    channel = sink.channel("asha", 1)
    disk.well = False
    sink.append(Kind.BINARY, channel, 1, frame(1, MOST))
    sink.look()
    assert sink.full
    sink.append(Kind.BINARY, channel, 2, b"\0")
    assert not sink.settle()
    sink.append(Kind.BINARY, channel, 3, frame(7))
    assert sink.settle() == [Loss("asha", 1, frames=1, packets=7, bytes=100, first_ns=3, last_ns=3)]
    assert not sink.settle(), "each loss is told once"
