"""What waits in memory is bounded and accounted for, and room on the disk is kept for the journal."""

import contextlib
import errno
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.errors import JournalSyncError, JournalWriteError
from storage.files import is_full
from storage.journal.backlog import Backlog, Loss
from storage.journal.reserve import LEAST_FACTOR, Reserve
from storage.journal.writer import JournalWriter, Kind, SegmentReader, segments
from storage.layout import DataLayout

STREAM = "20261123T034500-aaaaaa"
MOST = 10_000
MIB = 1 << 20


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


def test_what_waits_for_the_disk_to_confirm_is_rewritten_without_taking_more(
    layout: DataLayout, journal: JournalWriter
) -> None:
    """`mend` after a failed sync: nothing that waits is written, and what was written is on the disk."""
    channel = journal.channel("asha", 1)
    journal.append(Kind.BINARY, channel, 1, frame(1))
    journal.flush()
    with (
        patch("storage.journal.segment.sync_data", side_effect=OSError(errno.EIO, "Input/output error")),
        pytest.raises(JournalSyncError),
    ):
        journal.sync()
    journal.append(Kind.BINARY, channel, 2, frame(2))
    journal.mend()
    assert (journal.records, journal.written_records, journal.durable_records) == (2, 1, 0)
    journal.sync()
    assert journal.durable_records == 1
    assert segments(layout, STREAM) == [0, 1]
    journal.mend()
    assert segments(layout, STREAM) == [0, 1], "there is nothing to mend any more"


def test_the_reserve_takes_up_room_and_gives_it_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 8 * MIB)
    assert not reserve.is_kept
    assert not reserve.give_up()
    assert reserve.keep()
    assert reserve.is_kept
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 8 * MIB, "its blocks are allocated"
    before = (tmp_path / "reserve").stat().st_mtime_ns
    assert reserve.keep()
    assert (tmp_path / "reserve").stat().st_mtime_ns == before, "it is made once"
    assert reserve.give_up()
    assert not reserve.is_kept
    assert not list(tmp_path.iterdir())


def test_no_reserve_is_kept_where_it_would_fill_the_disk(tmp_path: Path) -> None:
    size = shutil.disk_usage(tmp_path).free // LEAST_FACTOR + 64 * MIB
    reserve = Reserve(tmp_path / "reserve", size)
    assert not reserve.keep()
    assert not list(tmp_path.iterdir())


def test_no_reserve_is_asked_for(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 0)
    assert reserve.is_kept
    assert reserve.keep()
    assert not reserve.give_up()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["posix_fallocate", "rename"])
def test_a_reserve_that_cannot_be_made_leaves_nothing(tmp_path: Path, call: str) -> None:
    where = "os.posix_fallocate" if call == "posix_fallocate" else "pathlib.Path.rename"
    with patch(where, side_effect=OSError(errno.ENOSPC, "No space left on device")):
        assert not Reserve(tmp_path / "reserve", MIB).keep()
    assert not list(tmp_path.iterdir())


def test_only_a_lack_of_room_is_a_full_disk() -> None:
    def error(number: int) -> JournalWriteError:
        error = JournalWriteError("segment: cannot write")
        error.__cause__ = OSError(number, "")
        return error

    assert is_full(error(errno.ENOSPC))
    assert is_full(error(errno.EDQUOT))
    assert is_full(OSError(errno.ENOSPC, ""))
    assert is_full(OSError(errno.EDQUOT, ""))
    assert not is_full(error(errno.EIO))
    assert not is_full(OSError(errno.EIO, ""))
    assert not is_full(JournalWriteError("segment: cannot write"))
