"""Which streams and segments there are, and which of them still grow."""

import subprocess
import sys
from pathlib import Path

import pytest

from storage.journal import JournalWriter, is_alive, segments, streams
from storage.layout import DataLayout

STREAM = "20261122T091500-1f3a9c"


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path)


def test_streams_and_segments_are_listed_and_nothing_else(layout: DataLayout) -> None:
    assert streams(layout) == []
    assert segments(layout, STREAM) == []
    writer = JournalWriter(layout, STREAM)
    (layout.journal / "a file").write_text("")
    for name in ("0000000001.journal.new", "0000000001.journal.zst.0a1b2c3d.new", "notes.txt"):
        (layout.stream(STREAM) / name).write_text("")
    assert streams(layout) == [STREAM]
    assert segments(layout, STREAM) == [0]
    writer.close()


def test_a_stream_is_alive_until_it_is_closed(layout: DataLayout) -> None:
    writer = JournalWriter(layout, STREAM)
    assert is_alive(layout, STREAM)
    writer.close()
    assert not is_alive(layout, STREAM)
    assert not is_alive(layout, "never-was")


def test_a_child_that_outlives_the_writer_does_not_keep_the_stream_alive(layout: DataLayout) -> None:
    writer = JournalWriter(layout, STREAM)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        writer.close()
        assert not is_alive(layout, STREAM)
        child.communicate(b"\n")
