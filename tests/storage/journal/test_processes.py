"""One process writes, another reads at the same time, and the writing one may be killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.journal import Kind, SegmentReader, is_alive, segments
from storage.layout import DataLayout

STREAM = "20261122T091500-1f3a9c"
BATCHES = 400

# Batch i is i % 7 records that say what they are; segments are small, so there are many.
WRITER = """
import sys, threading
from pathlib import Path
from storage.journal import JournalWriter, Kind
from storage.layout import DataLayout

writer = JournalWriter(DataLayout(Path(sys.argv[1])), sys.argv[2], segment_bytes=20_000)
batches = int(sys.argv[3])
channel = writer.channel("asha", 1)
print("ready", flush=True)
i = 0
while batches < 0 or i < batches:
    for j in range(i % 7):
        writer.append(Kind.BINARY, channel, i, f"{i}.{j}".encode() * 30)
    writer.flush()
    if i % 50 == 0:
        writer.sync()
    i += 1
writer.close()
"""


def start(root: Path, batches: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(root), STREAM, str(batches)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


class Follower:
    """Reads a stream as it grows, segment by segment."""

    def __init__(self, layout: DataLayout) -> None:
        self.layout = layout
        self.reader = SegmentReader(layout.segment(STREAM, 0))
        self.payloads: list[str] = []
        self.ordinal = 0

    def follow(self) -> bool:
        """Take in what is there; whether the stream has ended."""
        for block in self.reader.read():
            assert block.first_record == self.ordinal
            self.ordinal += len(block)
            self.payloads += [payload.decode() for _, payload in block.payloads(Kind.BINARY)]
        if self.reader.sealed and not self.reader.final:
            assert self.reader.finish() == []
            following = self.layout.segment(STREAM, self.reader.number + 1)
            if following.exists():
                self.reader.close()
                self.reader = SegmentReader(following)
                self.ordinal += 1  # the seal is a record
        return self.reader.final


@pytest.mark.slow
def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    process = start(tmp_path, BATCHES)
    try:
        follower = Follower(layout)
        while not follower.follow():
            assert process.poll() in (None, 0)
        assert follower.reader.finish() == []
        follower.reader.close()
    finally:
        process.kill()
        process.communicate()
    assert follower.payloads == [f"{i}.{j}" * 30 for i in range(BATCHES) for j in range(i % 7)]
    assert len(segments(layout, STREAM)) > 5


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_records_and_a_dead_stream(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    process = start(tmp_path, -1)
    try:
        while len(segments(layout, STREAM)) < 4:
            assert process.poll() is None
        assert is_alive(layout, STREAM)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not is_alive(layout, STREAM)
    payloads: list[str] = []
    for number in segments(layout, STREAM):
        with SegmentReader(layout.segment(STREAM, number)) as reader:
            for block in reader.read():
                payloads += [payload.decode() for _, payload in block.payloads(Kind.BINARY)]
            assert not reader.final
    expected = [f"{i}.{j}" * 30 for i in range(len(payloads)) for j in range(i % 7)]
    assert len(payloads) > 100
    assert payloads == expected[: len(payloads)]
