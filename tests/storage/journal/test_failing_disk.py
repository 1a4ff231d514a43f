"""The journal on a disk that fails, takes its time or refuses: no record is lost for it, and none is there twice."""

import errno
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.errors import JournalSyncError
from storage.files import sync_data
from storage.journal import JournalWriter, Kind, RecordReader, SegmentReader, segments
from storage.layout import DataLayout
from tests.support.limited_journal import RECORDS, STREAM
from tests.support.simulation import ROOT
from tests.support.waiting import PATIENCE_SECONDS


def test_a_file_that_may_not_grow_is_left_for_another(tmp_path: Path) -> None:
    """A short write, then EFBIG: no torn bytes stay, and when its time comes a new segment takes what waited."""
    command = [sys.executable, "-m", "tests.support.limited_journal", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10, "the limit was met, and lasted"
    layout = DataLayout(tmp_path)
    payloads = []
    for number in segments(layout, STREAM):
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            payloads += [payload for block in reader.read() for _, payload in block.payloads(Kind.BINARY)]
            assert not reader.finish()
    assert payloads == [number.to_bytes(2, "big") + bytes(1_000) for number in range(RECORDS)]


@pytest.mark.parametrize("failures", [1, 5])
def test_syncs_that_fail_for_a_while_cost_no_record_and_repeat_none(tmp_path: Path, failures: int) -> None:
    """`durable_records` waits for the disk; a reader counts each record once, whatever was repeated."""
    layout = DataLayout(tmp_path)
    left = failures

    def sync(descriptor: int) -> None:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.EIO, "Input/output error")
        sync_data(descriptor)

    now = 0.0
    with patch("storage.journal.segment.sync_data", sync):
        writer = JournalWriter(layout, STREAM, monotonic=lambda: now)
        channel = writer.channel("asha", 1)
        told = 0
        for number in range(200):
            writer.append(Kind.BINARY, channel, number, number.to_bytes(2, "big") + b"tick")
            writer.flush()
            try:
                writer.sync()
            except JournalSyncError:
                told += 1
                assert writer.durable_records == 0
            now += 1
        assert told == failures
        assert writer.durable_records == writer.records == 200
        assert writer.unsynced_bytes == 0
        writer.close()
    found: list[bytes] = []
    expected = 0
    for number in segments(layout, STREAM):
        with RecordReader(layout, STREAM, number, expected) as reader:
            found += [payload for block in reader.read() for _, payload in block.payloads(Kind.BINARY)]
            assert reader.next_record is not None
            expected = reader.next_record
    assert found == [number.to_bytes(2, "big") + b"tick" for number in range(200)]


def test_a_disk_that_takes_its_time_holds_up_nobody(tmp_path: Path) -> None:
    """A sync that takes long, in a thread: what comes meanwhile is written at once, and is durable after the next."""
    started, released = threading.Event(), threading.Event()

    def sync(descriptor: int) -> None:
        started.set()
        assert released.wait(PATIENCE_SECONDS)
        sync_data(descriptor)

    with patch("storage.journal.segment.sync_data", sync):
        writer = JournalWriter(DataLayout(tmp_path), STREAM)
        channel = writer.channel("asha", 1)
        writer.append(Kind.BINARY, channel, 0, b"first")
        writer.flush()
        thread = threading.Thread(target=writer.sync)
        thread.start()
        assert started.wait(PATIENCE_SECONDS)
        for number in range(1, 1_000):
            writer.append(Kind.BINARY, channel, number, b"tick" * 10)
            writer.flush()
        assert thread.is_alive()
        assert (writer.written_records, writer.durable_records) == (1_000, 0)
        assert writer.unsynced_bytes > 40_000
        released.set()
        thread.join()
        assert writer.durable_records == 1
        writer.sync()
        assert writer.durable_records == 1_000
        assert writer.unsynced_bytes == 0
        writer.close()
