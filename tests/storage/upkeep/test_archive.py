"""The archive of segments: only what is verified, byte for byte, and damage is never a shorter segment."""

import datetime
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.commit.decoder import Decoded
from storage.commit.writer import SegmentWriter
from storage.errors import JournalError, SegmentMissingError
from storage.files import DataFile
from storage.journal import Block, SegmentReader, segments
from storage.journal.archive_format import Place, read_archive, read_place, write_archive
from storage.layout import DataLayout, parse_file, parse_segment, rebuilt_stem, segment_stem, table_file
from storage.schema import QUARANTINE, TICKS
from storage.tables.symbols import SymbolLookup
from storage.tables.table import LakeTable
from storage.upkeep.archive import ArchiveOutcome, archive_committed
from storage.upkeep.compact import compact_day
from tests.support import works
from tests.support.committing import commit_all as commit
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, NINE_FIFTEEN_NS, Feed, ToyDecoder
from tests.support.lives import Life

OLD, NEW = "20261122T034500-aaaaaa", "20261123T034500-bbbbbb"


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


def fill(feed: Feed, count: int) -> None:
    """Some segments, each with three ticks, an event and an order."""
    for i in range(count):
        feed.event(f"event {i}")
        feed.tick((INFY, 100 * i), (CRUDE, i))
        feed.order(f"order {i}")
        feed.tick((NIFTY_FUT, 7 * i))
        feed.roll()


def archive(layout: DataLayout) -> ArchiveOutcome:
    return archive_committed(layout, ToyDecoder())


def names(layout: DataLayout, stream: str) -> list[str]:
    return sorted(path.name for path in layout.stream(stream).iterdir() if path.name != "stream.lock")


def dead_stream(layout: DataLayout, count: int = 3) -> Feed:
    """A stream of `count` segments with rows and one with none, committed."""
    with Feed(layout.root, OLD) as feed:
        fill(feed, count)
    commit(layout)
    return feed


def contents(layout: DataLayout, number: int) -> list[tuple[int, bytes]]:
    with SegmentReader(layout.segment(OLD, number)) as reader:
        blocks = [(block.first_record, block.payload.tobytes()) for block in reader.read()]
        assert reader.finish() == []
        assert (reader.stream, reader.number, reader.sealed) == (OLD, number, True)
        return blocks


def test_what_is_committed_is_compressed_and_reads_as_before(layout: DataLayout) -> None:
    dead_stream(layout)
    before = {number: layout.segment(OLD, number).read_bytes() for number in range(4)}
    blocks = {number: contents(layout, number) for number in range(4)}
    for number in before:
        os.utime(layout.segment(OLD, number), ns=(5, 1_700_000_000_123_456_789))
    outcome = archive(layout)
    assert (outcome.segments, outcome.unverified) == (4, [])
    assert outcome.plain_bytes == sum(map(len, before.values()))
    assert outcome.archived_bytes == sum(layout.archive(OLD, number).stat().st_size for number in before)
    assert names(layout, OLD) == [f"{number:010d}.journal.zst" for number in range(4)]
    assert segments(layout, OLD) == [0, 1, 2, 3]
    for number, data in before.items():
        assert read_archive(layout.archive(OLD, number)) == data
        assert contents(layout, number) == blocks[number]
        assert layout.archive(OLD, number).stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert archive(layout) == ArchiveOutcome()


def test_an_archive_says_where_its_segment_stands(layout: DataLayout) -> None:
    dead_stream(layout, 2)
    archive(layout)
    first, second, last = (read_place(layout.archive(OLD, number)) for number in range(3))
    assert (first.first_seq, first.packets, first.next_seq) == (0, 3, 3)
    assert (second.first_seq, second.packets) == (3, 3)
    assert (last.first_seq, last.packets) == (6, 0)
    assert (first.first_record, first.next_record) == (0, second.first_record)
    assert second.next_record == last.first_record
    assert (first.least_received_ns, first.most_received_ns) == (NINE_FIFTEEN_NS, NINE_FIFTEEN_NS + 3_000_000)
    assert last.least_received_ns > last.most_received_ns


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the zstd command")
def test_the_zstd_command_unpacks_an_archive(layout: DataLayout) -> None:
    dead_stream(layout, 1)
    data = layout.segment(OLD, 0).read_bytes()
    archive(layout)
    unpacked = subprocess.run(["zstd", "-dc", layout.archive(OLD, 0)], check=True, capture_output=True).stdout
    assert unpacked == data


@pytest.mark.slow
def test_what_may_still_grow_or_is_not_committed_stays(layout: DataLayout) -> None:
    feed = Feed(layout.root, OLD)
    fill(feed, 3)
    assert archive(layout) == ArchiveOutcome()  # no table yet
    writer = SegmentWriter(layout, ToyDecoder(), OLD)
    with writer.hold(threading.Event(), 0.1):
        writer.advance(threading.Event())
        fill(feed, 1)  # one more that is complete, and not committed
        assert archive(layout).segments == 3
        assert names(layout, OLD)[-2:] == ["0000000003.journal", "0000000004.journal"]
        feed.writer.close()
        writer.advance(threading.Event())
    assert archive(layout).segments == 2


def file_of_ticks(layout: DataLayout, end: str) -> tuple[LakeTable, DataFile]:
    """The table, and its only file whose path ends so, with statistics that it can be committed with again."""
    table = LakeTable(layout.table("ticks"), TICKS).open()
    (entry,) = [entry for entry in table.snapshot().entries if entry.relative.endswith(end)]
    return table, replace(entry, stats=json.dumps({"numRecords": entry.rows}))


@pytest.mark.slow
def test_rows_that_are_missing_keep_a_segment_until_they_are_there(layout: DataLayout) -> None:
    dead_stream(layout)
    table, file = file_of_ticks(layout, f"MCX/{OLD}-0000000001.parquet")
    table.commit([], remove=[file])
    outcome = archive(layout)
    (found,) = outcome.unverified
    assert (outcome.segments, found.stream, found.segment) == (3, OLD, 1)
    assert found.reason == "got 2 rows of 2026-11-23 in the table, 2 of them distinct, expected the 3 from seq 3 to 5"
    assert layout.unverified(OLD, 1).read_text() == f"{found.reason}\n"
    assert names(layout, OLD)[:3] == ["0000000000.journal.zst", "0000000001.journal", "0000000001.journal.unverified"]
    table.commit([file])
    assert archive(layout).unverified == []
    assert names(layout, OLD) == [f"{number:010d}.journal.zst" for number in range(4)]


@pytest.mark.slow
def test_rows_that_are_there_twice_keep_a_segment(layout: DataLayout) -> None:
    dead_stream(layout)
    table, file = file_of_ticks(layout, f"MCX/{OLD}-0000000001.parquet")
    twin = replace(file, relative=file.relative.replace(f"{OLD}-0000000001", "twin"))
    shutil.copy(table.path / file.relative, table.path / twin.relative)
    table.commit([twin])
    (found,) = archive(layout).unverified
    assert found.segment == 1
    assert found.reason == "got 4 rows of 2026-11-23 in the table, 3 of them distinct, expected the 3 from seq 3 to 5"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["missing", "shorter", "flipped"])
def test_files_that_are_not_as_the_log_says_keep_a_segment(layout: DataLayout, what: str) -> None:
    dead_stream(layout)
    table, file = file_of_ticks(layout, f"MCX/{OLD}-0000000001.parquet")
    path = table.path / file.relative
    data = path.read_bytes()
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if what == "shorter" else data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    (found,) = archive(layout).unverified
    assert (found.segment, found.reason.startswith(f"file {path}: ")) == (1, True)
    expected = {"missing": "cannot read", "shorter": f"got {len(data) - 1} bytes, expected {len(data)}"}
    assert expected.get(what, "") in found.reason
    assert layout.segment(OLD, 1).exists()


@pytest.mark.slow
def test_compacted_days_verify(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 5)
        feed.now_ns += DAY_NS
        fill(feed, 2)
    commit(layout)
    for day in (23, 24):
        assert compact_day(layout, datetime.date(2026, 11, day))
    outcome = archive(layout)
    assert (outcome.segments, outcome.unverified) == (8, [])


def test_damage_stays_as_it_is_and_what_follows_is_archived(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 3)
    path = layout.segment(OLD, 1)
    data = bytearray(path.read_bytes())
    data[data.index(b"order 1")] ^= 1  # the block with the whole of the segment's records
    path.write_bytes(data)
    commit(layout)
    assert any(
        row["record"] is None for row in LakeTable(layout.table("quarantine"), QUARANTINE).open().read().to_pylist()
    )
    outcome = archive(layout)
    assert (outcome.segments, outcome.unverified) == (3, [])
    assert path.read_bytes() == data
    assert read_place(layout.archive(OLD, 2)).first_seq == 3


@pytest.mark.slow
def test_a_segment_that_the_decoder_does_not_take_any_more_stays(layout: DataLayout) -> None:
    class Broken(ToyDecoder):
        def decode(
            self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
        ) -> Decoded:
            if segment == 1:
                raise ZeroDivisionError("a bug of the decoder's")
            return super().decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)

    dead_stream(layout)
    outcome = archive_committed(layout, Broken())
    assert [(found.segment, found.reason) for found in outcome.unverified] == [
        (1, "cannot be decoded: ZeroDivisionError")
    ]
    assert outcome.segments == 3


@pytest.mark.slow
def test_the_begin_of_a_stream_may_be_gone(layout: DataLayout) -> None:
    """Then files that are named after the first segment left say which seq it begins with."""
    dead_stream(layout)
    layout.segment(OLD, 0).unlink()
    assert archive(layout).unverified == []
    assert [read_place(layout.archive(OLD, number)).first_seq for number in (1, 2, 3)] == [3, 6, 9]


@pytest.mark.slow
def test_without_a_segment_before_it_is_counted_back(layout: DataLayout) -> None:
    """From the watermark; and from an archive, as long as nothing between is gone."""
    dead_stream(layout)
    whole = {number: layout.segment(OLD, number).read_bytes() for number in segments(layout, OLD)}
    archive(layout)
    places = {number: read_place(layout.archive(OLD, number)) for number in whole}
    compact_day(layout, datetime.date(2026, 11, 23))
    for plain in ([1, 2, 3], [1, 2], [1]):
        for number in plain:
            layout.segment(OLD, number).write_bytes(whole[number])
            layout.archive(OLD, number).unlink()
        layout.archive(OLD, 0).unlink(missing_ok=True)
        assert archive(layout).segments == len(plain)
        assert all(read_place(layout.archive(OLD, number)) == places[number] for number in plain)
    layout.segment(OLD, 1).write_bytes(whole[1])
    for number in (1, 2):
        layout.archive(OLD, number).unlink()
    (found,) = archive(layout).unverified
    assert (found.segment, "got no segment before it, and cannot count back" in found.reason) == (1, True)


@pytest.mark.slow
def test_both_forms_after_a_death_in_between(layout: DataLayout) -> None:
    dead_stream(layout)
    data = layout.segment(OLD, 1).read_bytes()
    archive(layout)
    layout.segment(OLD, 1).write_bytes(data)
    layout.archive(OLD, 1).write_bytes(b"whatever")
    assert archive(layout).segments == 1
    assert read_archive(layout.archive(OLD, 1)) == data
    assert not layout.segment(OLD, 1).exists()


@pytest.mark.slow
def test_any_changed_byte_is_refused(layout: DataLayout) -> None:
    dead_stream(layout, 1)
    archive(layout)
    path = layout.archive(OLD, 0)
    data = path.read_bytes()
    segment = read_archive(path)
    for at in range(len(data)):
        for mask in (0xFF, 0x01):
            path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
            try:
                assert read_archive(path) == segment, at  # a byte that zstd does not look at
            except JournalError:
                with pytest.raises(JournalError):
                    SegmentReader(layout.segment(OLD, 0))
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(JournalError, match="archive"):
            SegmentReader(layout.segment(OLD, 0))
    path.write_bytes(data + b"\0")
    with pytest.raises(JournalError, match=r"got no footer in its last 84 bytes, expected one"):
        SegmentReader(layout.segment(OLD, 0))


def test_an_archive_under_another_segments_name_is_refused(layout: DataLayout) -> None:
    dead_stream(layout, 1)
    archive(layout)
    layout.archive(OLD, 0).rename(layout.archive(OLD, 1))
    with pytest.raises(JournalError, match=r"got a footer of CRC [0-9a-f]{8}, expected"):
        SegmentReader(layout.segment(OLD, 1))


def test_a_damaged_archive_is_reported_and_left_alone(layout: DataLayout) -> None:
    dead_stream(layout, 2)
    archive(layout)
    path = layout.archive(OLD, 0)
    path.write_bytes(path.read_bytes()[:-1])
    (found,) = archive(layout).unverified
    assert (found.segment, "got no footer" in found.reason) == (0, True)
    assert path.exists()


def test_a_segment_that_is_nowhere_is_told_from_one_that_is_damaged(layout: DataLayout) -> None:
    layout.stream(OLD).mkdir(parents=True)
    with pytest.raises(SegmentMissingError, match="cannot open: No such file"):
        SegmentReader(layout.segment(OLD, 0))
    for read in (read_archive, read_place):
        with pytest.raises(SegmentMissingError, match="cannot read: No such file"):
            read(layout.archive(OLD, 0))


@given(data=st.binary(max_size=5000), numbers=st.lists(st.integers(0, 2**63 - 1), min_size=6, max_size=6))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, data: bytes, numbers: list[int]) -> None:
    path = DataLayout(tmp_path_factory.getbasetemp()).archive(OLD, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Place(*numbers)
    assert write_archive(path, data, place, mtime_ns=numbers[0] % 10**18) == path.stat().st_size
    assert read_archive(path) == data
    assert read_place(path) == place


def test_names_in_the_journal_and_of_files_say_which_segment_it_is() -> None:
    folder = DataLayout(Path("data"))
    assert str(folder.archive(OLD, 7)) == f"data/journal/{OLD}/0000000007.journal.zst"
    assert str(folder.unverified(OLD, 7)) == f"data/journal/{OLD}/0000000007.journal.unverified"
    assert parse_segment(folder.archive(OLD, 7)) == (OLD, 7)
    for path in (folder.unverified(OLD, 7), Path("s/0000000007.zst"), Path("s/0000000007.journal.zst.new")):
        with pytest.raises(ValueError, match="is not a segment"):
            parse_segment(path)
    for stem in (segment_stem(OLD, 12), rebuilt_stem(OLD, 12, "0123456789ab")):
        assert parse_file(table_file({"date": "2026-11-22", "exchange": "NSE"}, stem)) == (OLD, 12)
    for name in ("sealed-0123456789abcdef-0001-of-0002", "kept-r0123456789ab-1", "instruments-0123456789abcdef"):
        assert parse_file(f"date=2026-11-22/{name}.parquet") is None


def test_what_one_that_died_had_begun_is_removed(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 1)
    commit(layout)
    begun = layout.archive(OLD, 0)
    begun.with_name(f"{begun.name}.0123abcd.new").write_bytes(b"half")
    assert archive(layout).unverified == []
    assert begun.name in names(layout, OLD)
    assert not [name for name in names(layout, OLD) if name.endswith(".new")]


@pytest.mark.slow
def test_killed_at_any_moment(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 12)
    commit(layout)
    before = {number: layout.segment(OLD, number).read_bytes() for number in segments(layout, OLD)}
    rng = random.Random(5)
    for _ in range(4):
        with Life(works.archive, layout.root) as life:
            time.sleep(rng.uniform(0, 0.15))  # the moment is the point: any will do
            life.kill()
        for number, data in before.items():
            plain = layout.segment(OLD, number)
            assert (plain.read_bytes() if plain.exists() else read_archive(layout.archive(OLD, number))) == data
    assert archive(layout).unverified == []
    assert names(layout, OLD) == [f"{number:010d}.journal.zst" for number in before]
