"""Segments with flipped, missing and foreign bytes: only what was written comes back, and the rest is told."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import JournalError, JournalVersionError
from storage.journal import Block, Channel, Damage, JournalWriter, Kind, SegmentReader
from storage.journal.format import SEGMENT_HEADER, SEGMENT_MAGIC, SegmentHeader, pack_segment_header
from storage.layout import DataLayout
from tests.support.scaled import scaled

STREAM = "20261122T091500-1f3a9c"
Content = tuple[int, bytes, bytes]  # first record, kinds, payload


def content(block: Block) -> Content:
    return block.first_record, block.kinds.tobytes(), block.payload.tobytes()


@dataclass(frozen=True)
class Sample:
    """A whole segment: its bytes, and where its blocks lie. The last of them is the seal, which is not returned."""

    path: Path
    data: bytes
    starts: tuple[int, ...]
    contents: tuple[Content, ...]

    def end(self, block: int) -> int:
        return self.starts[block + 1] if block + 1 < len(self.starts) else len(self.data)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    layout = DataLayout(tmp_path_factory.mktemp("whole"))
    writer = JournalWriter(layout, STREAM)
    channel = writer.channel("a", 1)
    for i in range(3):
        writer.append(Kind.BINARY, channel, i, bytes([i]) * (5 + 8 * i))
        writer.append(Kind.TEXT, channel, i, b"{}")
        writer.flush()
    writer.close()
    path = layout.segment(STREAM, 0)
    with SegmentReader(path) as reader:
        blocks = reader.read()
        assert reader.finish() == []
    assert [content(block)[2] for block in blocks[2:]] == [b"\1" * 13 + b"{}", b"\2" * 21 + b"{}"]
    seal = blocks[-1].offset + blocks[-1].size
    starts = (*(block.offset for block in blocks), seal)
    return Sample(path, path.read_bytes(), starts, tuple(content(block) for block in blocks))


def read(path: Path) -> tuple[list[Content], list[Damage], bool]:
    with SegmentReader(path) as reader:
        whole = [content(block) for block in reader.read()], reader.finish(), reader.sealed
    scratch, blocks = np.empty(200, np.uint8), []  # one block fits in, and not always
    with SegmentReader(path) as reader:
        while some := reader.read(scratch):
            blocks += [content(block) for block in some]
        assert (blocks, reader.finish(), reader.sealed) == whole
    return whole


def put(sample: Sample, folder: Path, data: bytes) -> Path:
    """The bytes under the segment's own name, in another folder."""
    path = folder / STREAM / sample.path.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0xFF, 0x01])
def test_a_flip_at_every_byte_costs_just_the_block_that_it_hits(sample: Sample, tmp_path: Path, mask: int) -> None:
    for at in range(len(sample.data)):
        data = bytearray(sample.data)
        data[at] ^= mask
        blocks, damage, sealed = read(put(sample, tmp_path, bytes(data)))
        if at < sample.starts[0]:
            assert (blocks, sealed) == (list(sample.contents), True), at
            assert [(item.offset, item.length) for item in damage] == [(0, 128)], at
            continue
        hit = max(i for i, start in enumerate(sample.starts) if start <= at)
        assert blocks == [each for i, each in enumerate(sample.contents) if i != hit], at
        assert [(item.offset, item.length) for item in damage] == [
            (sample.starts[hit], sample.end(hit) - sample.starts[hit])
        ]
        assert sealed == (hit != len(sample.starts) - 1)


def test_a_cut_at_every_byte_costs_what_is_behind_it(sample: Sample, tmp_path: Path) -> None:
    for size in range(len(sample.data)):
        path = put(sample, tmp_path, sample.data[:size])
        if size < SEGMENT_HEADER.size:
            with pytest.raises(JournalError, match=rf"segment header: got {size} bytes, expected 128"):
                SegmentReader(path)
            continue
        whole = [i for i in range(len(sample.starts)) if sample.end(i) <= size]
        end = sample.end(whole[-1]) if whole else SEGMENT_HEADER.size
        blocks, damage, sealed = read(path)
        assert blocks == list(sample.contents[: len(whole)]), size
        assert [(item.offset, item.length) for item in damage] == ([(end, size - end)] if size > end else [])
        assert not sealed


@settings(max_examples=scaled(50, 150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_the_bytes(sample: Sample, tmp_path: Path, data: st.DataObject) -> None:
    """Overwritten, cut out, put in, repeated: what comes back was written, in order, and all the rest is reported."""
    bytes_ = bytearray(sample.data)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(bytes_)))
        end = data.draw(st.integers(start, min(len(bytes_), start + 200)))
        other = data.draw(st.integers(0, len(sample.data)))
        piece = data.draw(
            st.one_of(st.binary(max_size=60), st.just(sample.data[other : other + 200]), st.just(bytes(64)))
        )
        bytes_[start:end] = piece
    path = put(sample, tmp_path, bytes(bytes_))
    try:
        blocks, damage, _ = read(path)
    except JournalError:
        assert len(bytes_) < 128
        return
    positions = [sample.contents.index(block) for block in blocks]
    assert positions == sorted(set(positions))
    # Every byte behind the header is in a block that came back, in the seal, or reported.
    reported = [(item.offset, item.offset + item.length) for item in damage]
    returned = [(sample.starts[i], sample.end(i)) for i in positions]
    covered = sorted([*reported, *returned])
    last = len(sample.starts) - 1
    if bytes_[sample.starts[last] : sample.end(last)] == sample.data[sample.starts[last] :]:
        covered = sorted([*covered, (sample.starts[last], sample.end(last))])
    at = 0 if covered and covered[0][0] == 0 else 128
    for start, stop in covered:
        assert start <= at
        at = max(at, stop)
    assert at >= len(bytes_)


def test_bytes_of_another_segment_are_not_taken_for_blocks(sample: Sample, tmp_path: Path) -> None:
    """The same blocks at the same offsets, under another number: as when a disk brings back old bytes."""
    header = pack_segment_header(SegmentHeader(STREAM, 1, 0, 0))
    path = tmp_path / STREAM / "0000000001.journal"
    path.parent.mkdir()
    path.write_bytes(header + sample.data[128:])
    assert read(path)[0] == []
    assert [(item.offset, item.length) for item in read(path)[1]] == [(128, len(sample.data) - 128)]


def test_a_block_inside_a_payload_is_not_taken_for_one(tmp_path: Path, sample: Sample) -> None:
    layout = DataLayout(tmp_path)
    writer = JournalWriter(layout, STREAM)
    inner = sample.data[sample.starts[1] : sample.end(1)]
    writer.append(Kind.BINARY, 0, 1, inner)
    writer.append(Kind.BINARY, 0, 1, inner * 3)
    writer.flush()
    path = layout.segment(STREAM, 0)
    writer.close()
    data = bytearray(path.read_bytes())
    with SegmentReader(path) as reader:
        outer = reader.read()[1]
    data[outer.offset] ^= 1
    path.write_bytes(data)
    blocks, damage, _ = read(path)
    assert len(blocks) == 1
    assert [(item.offset, item.length) for item in damage] == [(outer.offset, outer.size)]


def test_bytes_behind_the_seal_are_reported(sample: Sample, tmp_path: Path) -> None:
    path = put(sample, tmp_path, sample.data + b"more")
    blocks, damage, sealed = read(path)
    assert blocks == list(sample.contents)
    assert damage == [Damage(len(sample.data), 4, "4 bytes behind the seal")]
    assert sealed


def test_a_torn_end_may_still_grow(sample: Sample, tmp_path: Path) -> None:
    """What a writer is in the middle of is neither returned nor called damage, at any point of the write."""
    block = 2
    start, end = sample.starts[block], sample.end(block)
    path = put(sample, tmp_path, sample.data[:start])
    with SegmentReader(path) as reader:
        assert len(reader.read()) == block
        for size in range(start, end):
            path.write_bytes(sample.data[:size])
            assert reader.read() == []
        path.write_bytes(sample.data[:start] + bytes(end - start))  # the size is there, the bytes not yet
        assert reader.read() == []
        path.write_bytes(sample.data[:start])  # the write failed, and was taken back
        assert reader.read() == []
        path.write_bytes(sample.data)
        assert [content(each) for each in reader.read()] == list(sample.contents[block:])
        assert reader.sealed
        assert reader.finish() == []
        assert reader.read() == []


def test_damage_in_the_middle_shows_when_a_good_block_follows(sample: Sample, tmp_path: Path) -> None:
    start, end = sample.starts[1], sample.end(1)
    bad = bytearray(sample.data)
    bad[start + 50] ^= 1
    path = put(sample, tmp_path, bytes(bad[:end]))
    with SegmentReader(path) as reader:
        assert len(reader.read()) == 1
        assert reader.position == start
        path.write_bytes(bad)
        assert [content(each) for each in reader.read()] == list(sample.contents[2:])
        (damage,) = reader.finish()
    assert (damage.offset, damage.length) == (start, end - start)
    assert "got bytes of CRC" in damage.reason


def test_channels_are_known_though_the_first_table_is_lost(sample: Sample, tmp_path: Path) -> None:
    data = bytearray(sample.data)
    data[sample.starts[0] + 60] ^= 1  # the opening table
    data[sample.starts[1] + 60] ^= 1  # the block that told of the new channel
    with SegmentReader(put(sample, tmp_path, bytes(data))) as reader:
        blocks = reader.read()
    assert blocks[0].channel_table == {0: Channel("", 0), 1: Channel("a", 1)}  # from the seal


def test_a_copy_under_another_name_is_read_by_its_header(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "copy.bin"
    shutil.copy(sample.path, path)
    assert read(path) == (list(sample.contents), [], True)
    path.write_bytes(b"\0" + sample.data[1:])
    with pytest.raises(JournalError, match=r"copy.bin: segment header: got magic 00.*, expected 894b4c4a0d0a1a0a"):
        SegmentReader(path)


def test_another_version_is_refused(sample: Sample, tmp_path: Path) -> None:
    import struct
    import zlib

    header = bytearray(sample.data[:128])
    header[12:16] = struct.pack("<I", 2)
    header[8:12] = struct.pack("<I", zlib.crc32(header[12:]))
    assert header.startswith(SEGMENT_MAGIC)
    with pytest.raises(JournalVersionError, match="got version 2, expected 1"):
        SegmentReader(put(sample, tmp_path, bytes(header) + sample.data[128:]))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot open: No such file or directory"):
        SegmentReader(tmp_path / "0000000000.journal")
