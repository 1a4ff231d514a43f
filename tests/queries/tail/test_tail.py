"""The live tail: what is in the journal behind the watermark, decoded once, as far as it is whole."""

import datetime
import shutil
import zlib
from collections.abc import Iterator, Set
from pathlib import Path

import pyarrow as pa
import pytest

from queries.tail.segment import SegmentRows, whole_rows
from queries.tail.tail import NOTHING, Tail, Vanished, list_journal
from storage import schema
from storage.commit.decoder import Part
from storage.commit.segment_rows import SegmentId
from storage.errors import JournalVersionError
from storage.journal.format import CRC_END, SegmentHeader, pack_segment_header
from storage.layout import DataLayout
from storage.tables.log import Watermark
from tests.support.lake import CRUDE, INFY, NIFTY_FUT, Feed, ToyDecoder, ToyFound

STREAM = "20261123T034500-aaaaaa"


class Looker:
    """Reads the tail with a watermark that the test sets."""

    def __init__(self, root: Path) -> None:
        self.layout = DataLayout(root)
        self.decoder = ToyDecoder()
        self.tail = Tail(self.layout, self.decoder)
        self.watermarks: dict[str, Watermark] = {}

    def read(
        self, *, holes: Set[SegmentId] = frozenset(), seen: dict[str, list[int]] | None = None
    ) -> list[SegmentRows]:
        return self.tail.read(
            lambda stream: self.watermarks.get(stream, NOTHING),
            seen=list_journal(self.layout) if seen is None else seen,
            holes=holes,
        )

    def ticks(self) -> list[tuple[int, int, float]]:
        return ticks(self.read())


def ticks(found: list[SegmentRows]) -> list[tuple[int, int, float]]:
    """(seq, token, price) of all segments."""
    columns = ("seq", "instrument_token", "last_price")
    rows = []
    for each in (each for segment in found for piece in segment.pieces for each in piece.ticks):
        decoded = each.decode(columns, lambda _: None)
        rows += list(zip(*(decoded[name].to_pylist() for name in columns), strict=True))
    return rows


def tables(found: list[SegmentRows]) -> dict[str, pa.Table]:
    """The rows of the other tables, by table."""
    pieces = [piece for segment in found for piece in segment.pieces]
    names = {name for piece in pieces for name in piece.tables}
    return {name: pa.concat_tables([p.tables[name] for p in pieces if name in p.tables]) for name in names}


@pytest.fixture
def looker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looker]:
    monkeypatch.setattr("queries.tail.tail.SCRATCH_BYTES", 256)  # some blocks fit in, one at a time
    looker = Looker(tmp_path)
    yield looker
    looker.tail.close()


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    with Feed(tmp_path, STREAM) as feed:
        yield feed


def test_no_journal_has_no_tail(tmp_path: Path) -> None:
    assert Looker(tmp_path / "nothing").read() == []


def test_rows_appear_when_they_are_flushed(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 150_000))
    assert looker.ticks() == []
    feed.flush()
    assert looker.ticks() == [(0, INFY, 1500.0)]
    feed.tick((NIFTY_FUT, 2_600_005), (CRUDE, 500_000))
    feed.flush()
    assert [row[0] for row in looker.ticks()] == [0, 1, 2]


def test_each_block_is_decoded_once(looker: Looker, feed: Feed) -> None:
    for turn in range(100):
        feed.tick((INFY, 150_000 + turn))
        feed.flush()
        if turn % 30 == 29:
            feed.roll()
        assert looker.ticks()[-1] == (turn, INFY, 1500 + turn / 100)
    assert len(looker.ticks()) == 100
    assert set(looker.decoder.blocks.values()) == {1}


def test_what_was_returned_stays_as_it_was(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1))
    feed.flush()
    early = looker.read()
    feed.tick((INFY, 2))
    feed.flush()
    assert len(ticks(looker.read())) == 2
    assert ticks(early) == [(0, INFY, 0.01)]


def test_what_was_found_is_the_same_object_later(looker: Looker, feed: Feed) -> None:
    feed.event("connected")
    feed.tick(*[(INFY, paise) for paise in range(1, 101)])
    feed.flush()
    (early,) = looker.read()[0].pieces
    for paise in range(101, 149):
        feed.tick((INFY, paise))
        feed.flush()
        pieces = looker.read()[0].pieces
        assert pieces[0] is early
        assert len(pieces) <= 7
    assert len(looker.ticks()) == 148


def test_what_was_returned_can_be_decoded_when_its_file_is_gone(looker: Looker, feed: Feed) -> None:
    for paise in (1, 2):
        feed.tick((INFY, paise))
        feed.roll()
    early = looker.read()
    looker.watermarks[STREAM] = Watermark(1, 2)
    for number in (0, 1):
        looker.layout.segment(STREAM, number).unlink()
    assert ticks(looker.read()) == []
    looker.tail.close()
    assert ticks(early) == [(0, INFY, 0.01), (1, INFY, 0.02)]


def test_few_files_stay_open(looker: Looker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queries.tail.tail.MOST_OPEN", 2)
    with Feed(tmp_path, STREAM) as feed:
        for paise in range(1, 8):
            feed.tick((INFY, paise))
            feed.roll()
    before = open_files()
    found = looker.read()
    assert open_files() == before + 2
    assert [row[0] for row in ticks(found)] == list(range(7))
    assert open_files() == before + 2
    looker.tail.close()
    assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_the_watermark_covers_is_dropped_and_ordinals_go_on(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1), (INFY, 2))
    feed.roll()
    feed.tick((INFY, 3))
    feed.flush()
    assert [row[0] for row in looker.ticks()] == [0, 1, 2]
    looker.watermarks[STREAM] = Watermark(0, 2)
    assert looker.ticks() == [(2, INFY, 0.03)]
    assert set(looker.decoder.blocks.values()) == {1}


def test_a_fresh_look_counts_from_the_watermark(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1))
    feed.roll()
    feed.tick((INFY, 2))
    feed.flush()
    looker.watermarks[STREAM] = Watermark(0, 41)
    assert looker.ticks() == [(41, INFY, 0.02)]
    looker.watermarks[STREAM] = Watermark(0, 1)  # as if the table had been rebuilt: ordinals are decoded anew
    assert looker.ticks() == [(1, INFY, 0.02)]


def test_streams_follow_one_another_and_count_on_their_own(looker: Looker, tmp_path: Path) -> None:
    for stream in ("20261123T050000-bbbbbb", STREAM):
        with Feed(tmp_path, stream) as feed:
            feed.tick((INFY, 7))
    found = looker.read()
    assert [segment.stream for segment in found] == [STREAM, "20261123T050000-bbbbbb"]
    assert [row[0] for row in ticks(found)] == [0, 0]


def test_a_torn_end_is_where_the_tail_ends(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1))
    feed.flush()
    feed.tick((INFY, 2))
    feed.flush()
    path = looker.layout.segment(STREAM, 0)
    path.write_bytes(path.read_bytes()[:-5])
    assert looker.ticks() == [(0, INFY, 0.01)]


def test_damage_inside_a_segment_costs_only_its_block(looker: Looker, feed: Feed) -> None:
    ends = []
    for paise in (1, 2, 3):
        feed.tick((INFY, paise))
        feed.flush()
        ends.append(looker.layout.segment(STREAM, 0).stat().st_size)
    feed.roll()
    path = looker.layout.segment(STREAM, 0)
    data = bytearray(path.read_bytes())
    data[ends[1] - 16] ^= 0xFF
    path.write_bytes(data)
    assert looker.ticks() == [(0, INFY, 0.01)]  # the second may come again as long as the stream grows
    feed.writer.close()
    found = looker.read()
    assert ticks(found) == [(0, INFY, 0.01), (1, INFY, 0.03)]
    (row,) = tables(found)["quarantine"].to_pylist()
    assert (row["segment"], row["offset"], row["length"]) == (0, ends[0], ends[1] - ends[0])
    assert "CRC" in row["reason"]


def test_a_decoder_that_fails_costs_only_its_segment(
    looker: Looker, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    feed.tick((INFY, 1))
    feed.flush()
    assert len(looker.ticks()) == 1
    feed.tick((99, 2))  # the toy decoder knows no such exchange
    feed.roll()
    feed.tick((INFY, 3))
    feed.flush()
    assert looker.ticks() == [(0, INFY, 0.03)]
    assert looker.ticks() == [(0, INFY, 0.03)]
    assert caplog.text.count("segment 0") == 1


def test_a_segment_that_is_none_is_left_to_the_writer(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1))
    feed.roll()
    feed.tick((INFY, 2))
    feed.flush()
    feed.writer.close()
    looker.layout.segment(STREAM, 0).write_bytes(b"short")
    assert looker.ticks() == [(0, INFY, 0.02)]


def test_a_segment_of_another_version_is_an_error(looker: Looker, feed: Feed) -> None:
    feed.flush()
    path = looker.layout.segment(STREAM, 0)
    header = bytearray(pack_segment_header(SegmentHeader(STREAM, 0, 0, 0)))
    header[12] = 99
    header[8:12] = zlib.crc32(header[CRC_END:]).to_bytes(4, "little")
    path.write_bytes(header)
    with pytest.raises(JournalVersionError, match="version 99"):
        looker.read()


def test_a_segment_that_vanished_says_so(looker: Looker, feed: Feed) -> None:
    for paise in (1, 2, 3):
        feed.tick((INFY, paise))
        feed.roll()
    feed.writer.close()
    looker.layout.segment(STREAM, 0).unlink()
    with pytest.raises(Vanished) as caught:
        looker.read()
    assert caught.value.missing == {(STREAM, 0)}
    assert [row[2] for row in ticks(looker.read(holes={(STREAM, 0)}))] == [0.02, 0.03]


def test_a_stream_that_vanished_as_a_whole_says_so(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1))
    feed.writer.close()
    seen = dict(list_journal(looker.layout))
    shutil.rmtree(looker.layout.stream(STREAM))
    with pytest.raises(Vanished):
        looker.read(seen=seen)
    looker.watermarks[STREAM] = Watermark(0, 1)
    assert looker.read(seen=seen) == []


def test_rows_have_the_schema_of_the_table(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1), (CRUDE, 2))
    feed.order("a")
    feed.event("b")
    feed.junk(b"c")
    feed.flush()
    found = tables(looker.read())
    assert set(found) == {"orders", "events", "quarantine"}
    for name, rows in found.items():
        assert rows.schema == schema.TABLES[name].schema
        rows.validate(full=True)


def test_whole_rows_puts_partition_columns_in_front() -> None:
    spec = schema.EVENTS
    rows = spec.file_schema.empty_table().to_pylist()
    part = Part({"date": "2026-11-23"}, pa.Table.from_pylist([*rows, {"event": "x"}], schema=spec.file_schema))
    whole = whole_rows(spec, part)
    assert whole.schema == spec.schema
    assert whole["date"].to_pylist() == [datetime.date(2026, 11, 23)]


def test_closing_lets_go_of_files(looker: Looker, feed: Feed) -> None:
    feed.tick((INFY, 1))
    feed.flush()
    looker.read()
    looker.tail.close()
    looker.tail.close()
    assert looker.ticks() == [(0, INFY, 0.01)]


@pytest.mark.parametrize(
    "found", [ToyFound(0, [], {"candles": []}), ToyFound(1, [], {})], ids=["another table", "too few ticks"]
)
def test_rows_that_the_writer_would_refuse_are_left_out(
    looker: Looker, feed: Feed, monkeypatch: pytest.MonkeyPatch, found: ToyFound
) -> None:
    feed.tick((INFY, 1))
    feed.roll()
    monkeypatch.setattr(looker.decoder, "find", lambda *_, **__: found)
    assert looker.ticks() == []
