"""A disk that does not confirm: what is not durable is written again, to another segment, and counted once."""

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import storage.journal.segment
from storage.errors import JournalSyncError, JournalWriteError
from storage.files import sync_data
from storage.journal import JournalWriter, Kind, RecordReader, SegmentReader, is_alive, segments
from storage.layout import DataLayout

STREAM = "20261122T091500-1f3a9c"


class Disk:
    """Syncs files, but for those that it is told to fail, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.bad: Callable[[int], bool] = lambda _number: False

    def sync(self, descriptor: int) -> None:
        number = int(Path(f"/proc/self/fd/{descriptor}").readlink().stem)
        self.asked[number] += 1
        if self.bad(number):
            raise OSError(5, "Input/output error")
        sync_data(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(storage.journal.segment, "sync_data", disk.sync)
    return disk


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(layout: DataLayout, clock: Clock) -> JournalWriter:
    return JournalWriter(layout, STREAM, segment_bytes=1 << 20, segment_seconds=1e9, monotonic=clock)


def write(writer: JournalWriter, *payloads: bytes) -> None:
    """Each payload a block of its own."""
    for payload in payloads:
        writer.append(Kind.TEXT, 0, 7, payload)
        writer.flush()


def roll(writer: JournalWriter) -> None:
    writer.segment_bytes, size = 0, writer.segment_bytes
    writer.flush()
    writer.segment_bytes = size


def text(layout: DataLayout, number: int) -> list[bytes]:
    """The records of one segment, without regard to others."""
    with SegmentReader(layout.segment(STREAM, number)) as reader:
        return [payload for block in reader.read() for _, payload in block.payloads(Kind.TEXT)]


def once(layout: DataLayout) -> list[bytes]:
    """The records of the stream, as its readers have to take them."""
    return [payload for _, payload in counted(layout)]


def counted(layout: DataLayout) -> Iterator[tuple[int, bytes]]:
    record: int | None = 0
    for number in segments(layout, STREAM):
        with RecordReader(layout, STREAM, number, record) as reader:
            for block in reader.read():
                yield from ((block.first_record + at, payload) for at, payload in block.payloads(Kind.TEXT))
            record = reader.next_record


def fail_once(disk: Disk, writer: JournalWriter, number: int) -> None:
    disk.bad = lambda asked: asked == number
    with pytest.raises(JournalSyncError, match=rf"segment .*{number:010d}.journal: cannot sync: Input/output error"):
        writer.sync()
    disk.bad = lambda _asked: False


def test_what_was_not_durable_is_rewritten_at_the_beginning_of_a_new_segment(
    disk: Disk, layout: DataLayout, writer: JournalWriter
) -> None:
    write(writer, b"one")
    writer.sync()
    write(writer, b"two", b"three")
    assert writer.unsynced_bytes > 0
    fail_once(disk, writer, 0)
    writer.sync()  # nothing to ask for: it was said, and is not asked again
    assert (writer.written_records, writer.durable_records) == (3, 1)
    write(writer, b"four")
    assert writer.segment == 1
    writer.sync()
    assert (writer.written_records, writer.durable_records, writer.unsynced_bytes) == (4, 4, 0)
    assert disk.asked[0] == 2
    assert text(layout, 0) == [b"one", b"two", b"three"]
    assert text(layout, 1) == [b"two", b"three", b"four"]
    writer.close()
    assert once(layout) == [b"one", b"two", b"three", b"four"]


def test_the_repeated_blocks_are_the_same_records_with_the_same_ordinals(
    disk: Disk, layout: DataLayout, writer: JournalWriter
) -> None:
    channel = writer.channel("asha", 1)
    writer.sync()
    writer.append(Kind.TEXT, channel, 11, b"a")
    writer.append(Kind.BINARY, writer.channel("ravi", 2), 12, b"b")
    writer.flush()
    roll(writer)
    write(writer, b"c")
    fail_once(disk, writer, 0)
    writer.flush()
    writer.close()

    def blocks(number: int) -> list[tuple[object, ...]]:
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            found = reader.read()
            assert reader.finish() == []
        columns = ("received_at_ns", "lengths", "channels", "kinds", "payload")
        return [(block.first_record, *(getattr(block, name).tobytes() for name in columns)) for block in found]

    with SegmentReader(layout.segment(STREAM, 2)) as reader:
        assert reader.header is not None
        repeated = reader.read()
        # The old segment's seal and the next one's opening table are records like others.
        assert [block.first_record for block in repeated] == [1, 5, 6, 7]
        assert (reader.header.first_record, reader.header.unsynced_segments) == (1, 2)
        assert {c.account for c in repeated[0].channel_table.values()} == {"", "asha", "ravi"}
    assert blocks(2) == [blocks(0)[1], blocks(2)[1], *blocks(1)]


def test_headers_say_how_many_segments_may_be_repeated(disk: Disk, layout: DataLayout, writer: JournalWriter) -> None:
    def unsynced(number: int) -> int:
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            assert reader.header is not None
            return reader.header.unsynced_segments

    write(writer, b"a")
    roll(writer)
    write(writer, b"b")
    roll(writer)
    writer.sync()
    write(writer, b"c")
    roll(writer)
    assert [unsynced(number) for number in range(4)] == [0, 1, 2, 1]
    fail_once(disk, writer, 2)
    writer.flush()
    write(writer, b"d")
    roll(writer)  # the rewritten segment is not on disk: what it repeats, 2 and 3, may come once more
    assert [unsynced(number) for number in (4, 5)] == [2, 3]
    writer.sync()
    write(writer, b"e")
    roll(writer)
    assert unsynced(6) == 1
    writer.close()


def test_later_segments_go_with_the_one_that_failed(disk: Disk, layout: DataLayout, writer: JournalWriter) -> None:
    write(writer, b"a")
    roll(writer)
    write(writer, b"b")
    fail_once(disk, writer, 0)
    assert disk.asked[1] == 0
    assert writer.durable_records == 0
    writer.flush()
    assert text(layout, 2) == [b"a", b"b"]
    writer.sync()
    assert writer.durable_records == 2
    writer.close()
    assert once(layout) == [b"a", b"b"]


def test_several_failures_in_a_row(disk: Disk, layout: DataLayout, writer: JournalWriter, clock: Clock) -> None:
    write(writer, b"a")
    for number in range(4):
        fail_once(disk, writer, number)
        assert writer.durable_records == 0
        clock.now += 100
        write(writer, b"%d" % number)
    writer.sync()
    assert writer.durable_records == 5
    assert text(layout, 4) == [b"a", b"0", b"1", b"2", b"3"]
    assert max(disk.asked.values()) == 1
    writer.close()
    assert once(layout) == [b"a", b"0", b"1", b"2", b"3"]


def test_a_disk_that_goes_on_failing_is_not_filled_with_repetitions(
    disk: Disk, layout: DataLayout, writer: JournalWriter, clock: Clock
) -> None:
    write(writer, b"first")
    disk.bad = lambda _number: True
    for i in range(600):  # ten minutes
        clock.now += 1
        write(writer, b"%d" % i)
        with contextlib.suppress(JournalSyncError):
            writer.sync()
    assert len(segments(layout, STREAM)) < 20
    assert (writer.written_records, writer.durable_records) == (601, 0)
    disk.bad = lambda _number: False
    clock.now += 60
    writer.flush()
    writer.sync()
    assert writer.durable_records == 601
    write(writer, b"then")
    number = writer.segment
    fail_once(disk, writer, number)
    writer.flush()  # a sync has succeeded meanwhile: this one does not wait
    assert writer.segment == number + 1
    writer.close()
    assert once(layout) == [b"first", *(b"%d" % i for i in range(600)), b"then"]


def test_a_rewriting_that_fails_leaves_nothing_and_is_tried_again(
    disk: Disk, layout: DataLayout, writer: JournalWriter, clock: Clock
) -> None:
    write(writer, b"a", b"b")
    fail_once(disk, writer, 0)
    in_the_way = layout.segment(STREAM, 1).with_suffix(".journal.new")
    in_the_way.mkdir()
    writer.append(Kind.TEXT, 0, 1, b"c")
    with pytest.raises(JournalWriteError, match=r"0000000001.journal: cannot create: Is a directory"):
        writer.flush()
    writer.flush()  # not again at once: so the old segment takes what is buffered
    assert text(layout, 0) == [b"a", b"b", b"c"]
    assert writer.buffered_bytes == 0
    in_the_way.rmdir()
    clock.now += 1
    writer.flush()
    assert text(layout, 1) == [b"a", b"b", b"c"]
    writer.close()
    assert writer.durable_records == 3
    assert once(layout) == [b"a", b"b", b"c"]


def test_mending_rewrites_without_taking_more(disk: Disk, layout: DataLayout, writer: JournalWriter) -> None:
    """`mend` after a failed sync: nothing that waits is written, and what was written is on the disk."""
    write(writer, b"a")
    fail_once(disk, writer, 0)
    writer.append(Kind.TEXT, 0, 7, b"b")
    writer.mend()
    assert (writer.records, writer.written_records, writer.durable_records) == (2, 1, 0)
    writer.sync()
    assert writer.durable_records == 1
    assert segments(layout, STREAM) == [0, 1]
    writer.mend()
    assert segments(layout, STREAM) == [0, 1], "there is nothing to mend any more"
    writer.close()


# Ends itself at one step of the rewriting: 0 and 1 before the two writes, 2 before the rename, 3 after it.
DIES = """
import os, sys
from pathlib import Path
import storage.journal.segment
from storage.errors import JournalSyncError
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

writer = JournalWriter(DataLayout(Path(sys.argv[1])), sys.argv[2])
for payload in (b"a", b"b"):
    writer.append(Kind.TEXT, 0, 7, payload)
writer.flush()

def fail(descriptor):
    raise OSError(5, "Input/output error")

storage.journal.segment.sync_data = fail
try:
    writer.sync()
except JournalSyncError:
    pass
left = int(sys.argv[3])

def step():
    global left
    left -= 1
    if left < 0:
        os._exit(77)

plain_write, plain_rename = storage.journal.segment._write_all, Path.rename

def write(file, data):
    step()
    plain_write(file, data)

def rename(path, target):
    step()
    plain_rename(path, target)

storage.journal.segment._write_all, Path.rename = write, rename
writer.flush()
os._exit(77)
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(6))
def test_the_end_of_the_process_at_any_step_of_rewriting_hides_nothing(layout: DataLayout, steps: int) -> None:
    command = [sys.executable, "-c", DIES, str(layout.root), STREAM, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 77, done.stderr
    assert segments(layout, STREAM) == ([0, 1] if steps >= 4 else [0])
    assert once(layout) == [b"a", b"b"]


class TestClose:
    def test_a_failure_of_the_last_sync_is_rewritten_and_said(
        self, disk: Disk, layout: DataLayout, writer: JournalWriter
    ) -> None:
        write(writer, b"a")
        disk.bad = lambda number: number == 0
        with pytest.raises(JournalSyncError, match=r"0000000000.journal: cannot sync"):
            writer.close()
        assert writer.closed
        assert (writer.durable_records, writer.unsynced_bytes) == (1, 0)
        assert not is_alive(layout, STREAM)
        writer.close()
        with SegmentReader(layout.segment(STREAM, 1)) as reader:
            reader.read()
            assert reader.final
        assert once(layout) == [b"a"]

    def test_an_earlier_failure_is_made_up_for(self, disk: Disk, layout: DataLayout, writer: JournalWriter) -> None:
        write(writer, b"a")
        fail_once(disk, writer, 0)
        writer.close()
        assert writer.durable_records == 1
        assert text(layout, 1) == [b"a"]

    def test_a_disk_that_confirms_nothing_does_not_keep_it_open(
        self, disk: Disk, layout: DataLayout, writer: JournalWriter
    ) -> None:
        write(writer, b"a")
        disk.bad = lambda _number: True
        with pytest.raises(JournalSyncError, match=r"0000000000.journal: cannot .*; segment .*0000000001.journal"):
            writer.close()
        assert writer.closed
        assert (writer.written_records, writer.durable_records) == (1, 0)
        assert not is_alive(layout, STREAM)
        writer.sync()
        assert once(layout) == [b"a"]
        descriptors = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        assert not [path for path in descriptors if path.readlink().is_relative_to(layout.root)]


def test_buffered_and_unsynced_bytes(disk: Disk, layout: DataLayout, writer: JournalWriter) -> None:
    writer.sync()
    assert (writer.buffered_bytes, writer.unsynced_bytes) == (0, 0)
    for size in (3, 0, 500):
        writer.append(Kind.BINARY, 0, 1, bytes(size))
    assert writer.buffered_bytes == 503
    writer.append(Kind.BINARY, 0, 1, bytes(7))
    assert writer.buffered_bytes == writer.buffered_bytes == 510
    before = layout.segment(STREAM, 0).stat().st_size
    writer.flush()
    written = layout.segment(STREAM, 0).stat().st_size - before
    assert (writer.buffered_bytes, writer.unsynced_bytes) == (0, written)
    fail_once(disk, writer, 0)
    assert writer.unsynced_bytes == written
    writer.flush()
    assert writer.unsynced_bytes == written
    writer.sync()
    assert writer.unsynced_bytes == 0
    writer.close()
