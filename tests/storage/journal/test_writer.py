"""The journal as its writer and its reader see it, with nothing going wrong but writes and syncs."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.journal.buffer
import storage.journal.segment
from storage.errors import DiskFullError, JournalError, JournalWriteError
from storage.journal import Block, Channel, JournalWriter, Kind, SegmentReader, segments
from storage.layout import DataLayout
from tests.support.scaled import scaled

STREAM = "20261122T091500-1f3a9c"
Record = tuple[int, int, int, bytes]  # kind, channel, receive time, payload


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path)


def writer_of(
    layout: DataLayout, *, segment_bytes: int = 1 << 20, clock: Callable[[], float] = lambda: 0.0
) -> JournalWriter:
    return JournalWriter(layout, STREAM, segment_bytes=segment_bytes, segment_seconds=10, monotonic=clock)


def records_of(blocks: list[Block]) -> list[Record]:
    """All records but channel tables, one by one."""
    found = []
    for block in blocks:
        at = 0
        for i, length in enumerate(block.lengths.tolist()):
            payload = block.payload[at : at + length].tobytes()
            at += length
            if block.kinds[i] != Kind.CHANNELS:
                found.append((int(block.kinds[i]), int(block.channels[i]), int(block.received_at_ns[i]), payload))
        assert at == len(block.payload)
    return found


def read_all(layout: DataLayout) -> list[Record]:
    """Every record of the stream; checks on the way that ordinals have no gap and nothing is damaged."""
    found = []
    ordinal = 0
    for number in segments(layout, STREAM):
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            blocks = reader.read()
            assert reader.finish() == []
        assert (reader.stream, reader.number) == (STREAM, number)
        for block in blocks:
            assert block.first_record == ordinal
            ordinal += len(block)
        ordinal += reader.sealed  # the seal is a channel table too
        found += records_of(blocks)
    return found


record = st.tuples(
    st.sampled_from([Kind.BINARY, Kind.TEXT, Kind.EVENT]),
    st.integers(0, 65_535),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=40),
)


@settings(max_examples=scaled(20, 60))
@given(batches=st.lists(st.lists(record, max_size=6), max_size=8), segment_bytes=st.sampled_from([1, 600, 1 << 20]))
def test_what_is_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Record]], segment_bytes: int
) -> None:
    layout = DataLayout(tmp_path_factory.mktemp("journal"))
    writer = writer_of(layout, segment_bytes=segment_bytes)
    for batch in batches:
        for kind, channel, received_at_ns, payload in batch:
            writer.append(Kind(kind), channel, received_at_ns, payload)
        writer.flush()
    writer.close()
    everything = [each for batch in batches for each in batch]
    assert read_all(layout) == everything
    assert writer.records == writer.written_records == writer.durable_records == len(everything)
    sizes = [layout.segment(STREAM, number).stat().st_size for number in segments(layout, STREAM)]
    assert writer.written_bytes == sum(sizes)


def test_a_large_batch_becomes_several_blocks(layout: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.journal.buffer, "MAX_BLOCK_BYTES", 100)
    writer = writer_of(layout)
    payloads = [bytes([i]) * size for i, size in enumerate((60, 60, 10, 250, 0, 99, 1))]
    for payload in payloads:
        writer.append(Kind.TEXT, 0, 5, payload)
    writer.flush()
    writer.close()
    with SegmentReader(layout.segment(STREAM, 0)) as reader:
        assert [len(block) for block in reader.read()] == [1, 1, 2, 1, 3]
    assert [payload for *_, payload in read_all(layout)] == payloads


def test_payloads_are_views_and_read_only(layout: DataLayout) -> None:
    with_one = writer_of(layout)
    with_one.append(Kind.BINARY, 0, 1, b"abc")
    with_one.close()
    with SegmentReader(layout.segment(STREAM, 0)) as reader:
        block = reader.read()[1]
    assert not block.payload.flags.owndata
    assert not block.payload.flags.writeable
    assert block.received_at_ns.flags.aligned
    assert block.payloads(Kind.BINARY) == [(0, b"abc")]
    assert block.payloads(Kind.TEXT) == []
    assert block.received_at_ns.dtype == np.int64
    assert block.lengths.dtype == np.uint32
    assert block.channels.dtype == np.uint16
    assert block.kinds.dtype == np.uint8


class TestChannels:
    def test_numbers_are_given_once_and_journalled_before_use(self, layout: DataLayout) -> None:
        writer = writer_of(layout)
        assert writer.channel("", 0) == 0
        first = writer.channel("asha", 1)
        writer.append(Kind.BINARY, first, 1, b"x")
        second = writer.channel("आशा", 2)
        writer.append(Kind.BINARY, second, 2, b"y")
        assert writer.channel("asha", 1) == first
        assert writer.records == 2
        writer.close()
        assert (writer.written_records, writer.durable_records) == (2, 2)
        with SegmentReader(layout.segment(STREAM, 0)) as reader:
            blocks = reader.read()
        assert blocks[1].channel_table == {0: Channel("", 0), 1: Channel("asha", 1), 2: Channel("आशा", 2)}
        assert blocks[1].kinds.tolist() == [Kind.CHANNELS, Kind.BINARY, Kind.CHANNELS, Kind.BINARY]

    def test_each_segment_opens_with_the_table(self, layout: DataLayout) -> None:
        writer = writer_of(layout, segment_bytes=1)
        channel = writer.channel("asha", 1)
        for i in range(3):
            writer.append(Kind.BINARY, channel, i, b"x")
            writer.flush()
        writer.close()
        for number in (1, 2, 3):
            with SegmentReader(layout.segment(STREAM, number)) as reader:
                block = reader.read()[0]
            assert block.channel_table == {0: Channel("", 0), 1: Channel("asha", 1)}


class TestRolling:
    def test_by_size(self, layout: DataLayout) -> None:
        writer = writer_of(layout, segment_bytes=2000)
        for i in range(10):
            writer.append(Kind.BINARY, 0, i, bytes(500))
            writer.flush()
        writer.close()
        numbers = segments(layout, STREAM)
        assert numbers == list(range(len(numbers)))
        assert 3 <= len(numbers) <= 5
        assert writer.segment == numbers[-1]
        assert len(read_all(layout)) == 10

    def test_by_age_but_never_without_records(self, layout: DataLayout) -> None:
        clock = Clock()
        writer = writer_of(layout, clock=clock)
        clock.now += 100
        writer.flush()
        assert segments(layout, STREAM) == [0]
        writer.append(Kind.BINARY, 0, 1, b"x")
        writer.flush()  # the segment is old: it takes the record and is sealed
        assert segments(layout, STREAM) == [0, 1]
        clock.now += 9
        writer.append(Kind.BINARY, 0, 2, b"y")
        writer.flush()
        assert writer.segment == 1
        clock.now += 1
        writer.flush()  # nothing to write, and still it is time
        assert segments(layout, STREAM) == [0, 1, 2]
        writer.close()
        assert len(read_all(layout)) == 2

    def test_seals(self, layout: DataLayout) -> None:
        writer = writer_of(layout, segment_bytes=1)
        writer.append(Kind.BINARY, 0, 1, b"x")
        writer.flush()
        states = []
        for number in (0, 1):
            with SegmentReader(layout.segment(STREAM, number)) as reader:
                reader.read()
                states.append((reader.sealed, reader.final))
        assert states == [(True, False), (False, False)]
        writer.close()
        with SegmentReader(layout.segment(STREAM, 1)) as reader:
            reader.read()
            assert (reader.sealed, reader.final) == (True, True)


class TestLife:
    def test_a_stream_is_never_appended_to_again(self, layout: DataLayout) -> None:
        writer_of(layout).close()
        with pytest.raises(JournalError, match=f"stream {STREAM}: cannot create .*: File exists"):
            writer_of(layout)

    def test_close_is_idempotent_and_final(self, layout: DataLayout) -> None:
        writer = writer_of(layout)
        assert not writer.closed
        writer.close()
        writer.close()
        assert writer.closed
        writer.flush()
        writer.append(Kind.TEXT, 0, 1, b"late")
        with pytest.raises(JournalError, match="got 1 records after it was closed"):
            writer.flush()

    def test_packets_as_the_frames_claim(self, layout: DataLayout) -> None:
        writer = writer_of(layout)
        for payload in (b"\x00\x03rest", b"\x01\x00", b"\x00", b"", b"\x00\x00more"):
            writer.append(Kind.BINARY, 0, 1, payload)
        writer.append(Kind.TEXT, 0, 1, b"{}")
        assert writer.packets == 0
        writer.flush()
        assert writer.packets == 3 + 256
        writer.append(Kind.BINARY, 0, 1, b"\x00\x02")
        writer.close()
        assert writer.packets == 3 + 256 + 2


class TestFailingDisk:
    def test_a_write_cut_short_is_taken_back_and_done_again(self, layout: DataLayout) -> None:
        """With a real limit on the size of files: the system writes a part, then refuses."""
        program = """
import resource, sys
from pathlib import Path
from storage.errors import JournalWriteError
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout
from tests.support.scaled import scaled

writer = JournalWriter(DataLayout(Path(sys.argv[1])), sys.argv[2])
path = DataLayout(Path(sys.argv[1])).segment(sys.argv[2], 0)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
writer.append(Kind.BINARY, 0, 0, bytes(300))
writer.flush()
size = path.stat().st_size
for i in range(1, 4):
    writer.append(Kind.BINARY, 0, i, bytes([i]) * 300)
    try:
        writer.flush()
    except JournalWriteError as error:
        assert path.stat().st_size == size, (path.stat().st_size, size)
        print(error)
    size = path.stat().st_size
    assert writer.records == i + 1
assert writer.written_records < 4
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
writer.flush()
assert writer.written_records == 4
writer.close()
"""
        done = subprocess.run(
            [sys.executable, "-c", program, str(layout.root), STREAM], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "cannot write" in done.stdout
        assert "File too large" in done.stdout
        assert [(at, payload) for _, _, at, payload in read_all(layout)] == [(i, bytes([i]) * 300) for i in range(4)]

    def test_torn_bytes_that_cannot_be_cut_off_cost_the_segment_not_the_records(
        self, layout: DataLayout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(FileIO):
            broken = False

            def write(self, data: object, /) -> int:
                if Broken.broken:
                    super().write(memoryview(data)[: len(memoryview(data)) // 2])  # type: ignore[arg-type]
                    raise OSError(5, "Input/output error")
                return super().write(data)  # type: ignore[arg-type]

            def truncate(self, size: int | None = None, /) -> int:
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(storage.journal.segment, "FileIO", Broken)
        writer = writer_of(layout)
        writer.append(Kind.TEXT, 0, 1, b"one")
        writer.flush()
        Broken.broken = True
        writer.append(Kind.TEXT, 0, 2, b"two" * 100)
        with pytest.raises(JournalWriteError, match=r"segment .*0000000000.journal: cannot write \d+ bytes at \d+"):
            writer.flush()
        with pytest.raises(JournalWriteError, match=r"0000000001.journal: cannot create"):
            writer.flush()
        assert segments(layout, STREAM) == [0]
        Broken.broken = False
        writer.append(Kind.TEXT, 0, 3, b"three")
        writer.close()
        assert segments(layout, STREAM) == [0, 1]
        found, damage = [], []
        for number in (0, 1):
            with SegmentReader(layout.segment(STREAM, number)) as reader:
                found += records_of(reader.read())
                damage.append([item.reason for item in reader.finish()])
        assert [payload for *_, payload in found] == [b"one", b"two" * 100, b"three"]
        assert [len(reasons) for reasons in damage] == [1, 0]

    @pytest.mark.parametrize(
        ("number", "expected"),
        [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, JournalWriteError)],
    )
    def test_a_lack_of_room_has_an_error_of_its_own(
        self, layout: DataLayout, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[JournalWriteError]
    ) -> None:
        """Of a disk or of a quota; where a block is written, and where a segment is created."""

        class Refusing(FileIO):
            refuses = False

            def write(self, data: Any, /) -> int:
                if Refusing.refuses:
                    raise OSError(number, os.strerror(number))
                return super().write(data)

        monkeypatch.setattr(storage.journal.segment, "FileIO", Refusing)
        clock = Clock()
        writer = writer_of(layout, clock=clock)
        writer.append(Kind.TEXT, 0, 1, b"one")
        writer.flush()
        writer.append(Kind.TEXT, 0, 1, b"two")
        Refusing.refuses = True
        for what in (r"0000000000.journal: cannot write \d+ bytes at \d+", r"0000000001.journal: cannot create"):
            with pytest.raises(JournalWriteError, match=f"{what}: {os.strerror(number)}") as caught:
                writer.flush()
            assert type(caught.value) is expected
            clock.now += 10
        Refusing.refuses = False
        writer.close()
        assert [payload for *_, payload in read_all(layout)] == [b"one", b"two"]

    def test_an_unusable_folder_shows_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "journal").write_text("in the way")
        with pytest.raises(JournalError, match=r"cannot create .*: Not a directory"):
            writer_of(DataLayout(tmp_path))


def test_sync_in_another_thread(layout: DataLayout) -> None:
    """Watermarks stay in order, and every segment is synced and closed, however the threads meet."""
    writer = writer_of(layout, segment_bytes=3000)
    stop = threading.Event()
    wrong: list[str] = []

    def sync() -> None:
        while not stop.is_set():
            writer.sync()
            durable, written, appended = writer.durable_records, writer.written_records, writer.records
            if not durable <= written <= appended:
                wrong.append(f"{durable} {written} {appended}")

    threads = [threading.Thread(target=sync) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(300):
        for _ in range(5):
            writer.append(Kind.BINARY, 0, i, bytes(20))
        writer.flush()
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert wrong == []
    assert writer.durable_records == writer.records == 1500
    assert len(segments(layout, STREAM)) > 10
    descriptors = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [path for path in descriptors if path.readlink().is_relative_to(layout.root)]
    assert len(read_all(layout)) == 1500
