"""The writer: every row once, whatever dies, and nothing that is bad stops what is good."""

import datetime
import json
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from filelock import FileLock

from storage import schema
from storage.clock import ist_time
from storage.commit.decoder import Decoded, Part
from storage.commit.writer import SegmentCommitted, SegmentWriter
from storage.errors import TableError
from storage.journal import Block, SegmentReader, segments, streams
from storage.layout import DataLayout
from storage.tables.log import Watermark
from storage.tables.symbols import SymbolLookup, write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.retention import remove_committed
from tests.support.committing import NEW, OLD, check, column, commit_all, fill, table, ticks
from tests.support.lake import CRUDE, DAY_NS, INFY, Feed, ToyDecoder
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow  # tables are made for each test

FAR = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


class TestCommit:
    def test_dead_streams(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as old, Feed(layout.root, NEW) as new:
            fill(old, 3)
            fill(new, 2, offset=10)
        done = commit_all(layout)
        check(layout, old, new)
        assert [(each.stream, each.segment) for each in done] == [
            *((OLD, number) for number in range(4)),
            *((NEW, number) for number in range(3)),
        ]
        assert [each.rows for each in done] == [3, 3, 3, 0, 3, 3, 0]
        assert done[0].wire_bytes == 24
        assert done[0].files == 6  # three exchanges, events, orders, quarantine
        written = sum(path.stat().st_size for path in layout.root.rglob("*.parquet") if "_delta_log" not in str(path))
        assert sum(each.file_bytes for each in done) == written
        assert done[0].quarantined == 1
        mark = LakeTable(layout.table("ticks"), schema.TICKS).open().snapshot().watermark(OLD)
        with SegmentReader(layout.segment(OLD, 3)) as reader:
            reader.read()
            assert mark == Watermark(3, 9, reader.next_record)
        assert commit_all(layout) == []

    def test_lag_and_last_receive_time(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            feed.tick((INFY, 1))
            feed.roll()
        received_ns = feed.now_ns - 1_000_000
        first, last = commit_all(layout, clock_ns=lambda: received_ns + 2_500_000_000)
        assert first.last_received_at_ns == received_ns
        assert first.lag_seconds == 2.5
        json.dumps([vars(first), vars(last)])

    def test_partitions_are_those_of_the_parts(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            feed.tick((INFY, 1))
            feed.now_ns += DAY_NS
            feed.tick((CRUDE, 1))
        commit_all(layout)
        found = sorted(
            path.relative_to(layout.table("ticks")).as_posix() for path in layout.table("ticks").glob("d*/*/*")
        )
        assert found == [
            f"date=2026-11-23/exchange=NSE/{OLD}-0000000000.parquet",
            f"date=2026-11-24/exchange=MCX/{OLD}-0000000000.parquet",
        ]
        assert not list(layout.staging.rglob("*.parquet"))

    def test_symbols_come_from_the_list_in_force(self, layout: DataLayout) -> None:
        names = schema.INSTRUMENTS.file_schema.names
        row = dict.fromkeys(names) | {"instrument_token": INFY, "symbol": "NSE:INFY"}
        rows = pa.Table.from_pylist([row], schema=schema.INSTRUMENTS.file_schema)
        write_instruments(layout, datetime.date(2026, 11, 20), rows)
        with Feed(layout.root, OLD) as feed:
            feed.tick((INFY, 1), (CRUDE, 1))
        commit_all(layout)
        assert column(layout, "ticks", "symbol") == ["NSE:INFY", None]

    def test_orders_are_stored_once_a_day(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            for name in ("a", "b", "a"):
                feed.order(name)
            feed.roll()
            feed.order("b")
            feed.order("c")
        with Feed(layout.root, NEW) as again:
            again.order("a")
            again.now_ns += DAY_NS
            again.order("a")
        commit_all(layout)
        assert column(layout, "orders", "order_id") == ["a", "a", "b", "c"]

    def test_a_table_that_cannot_be_committed_to_ends_the_run_and_loses_nothing(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 1)
        commit_all(layout)
        log = layout.table("ticks") / "_delta_log" / "00000000000000000001.json"
        good = log.read_bytes()
        log.write_bytes(b"{")
        with Feed(layout.root, NEW) as more:
            fill(more, 1, offset=5)
        with pytest.raises(TableError, match="cannot read its log"):
            commit_all(layout)
        log.write_bytes(good)
        commit_all(layout)
        check(layout, feed, more)


class TestLive:
    def test_follows_a_stream_to_its_end(self, layout: DataLayout) -> None:
        feed = Feed(layout.root, NEW)
        done: list[SegmentCommitted] = []
        arrived = threading.Condition()

        def note(segment: SegmentCommitted) -> None:
            with arrived:
                done.append(segment)
                arrived.notify_all()

        writer = SegmentWriter(layout, ToyDecoder(), NEW, on_commit=note)
        thread = threading.Thread(target=writer.run, kwargs={"poll_seconds": 0.01, "stop": threading.Event()})
        thread.start()
        for i in range(3):
            fill(feed, 1, offset=i)
            with arrived:
                assert arrived.wait_for(lambda i=i: len(done) == i + 1, timeout=PATIENCE_SECONDS)  # type: ignore[misc]
        feed.tick((INFY, 5))
        feed.flush()
        assert thread.is_alive()
        feed.writer.close()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        check(layout, feed)
        assert [each.segment for each in done] == [0, 1, 2, 3]

    def test_what_may_still_grow_is_left_alone(self, layout: DataLayout) -> None:
        """Neither the live stream's open segment nor that of a stream that another process writes."""
        live, other = Feed(layout.root, OLD), Feed(layout.root, NEW)
        for feed in (live, other):
            fill(feed, 1)
            feed.tick((INFY, 1))
            feed.flush()
        writer = SegmentWriter(layout, ToyDecoder(), OLD)
        stop = threading.Event()
        with writer.hold(stop, 0.1) as held:
            assert held
            assert writer.advance(stop)
            assert not writer.advance(stop)
            assert [row[0] for row in ticks(layout)] == [OLD] * 3
            live.writer.close()
            other.writer.close()
            assert writer.advance(stop)
        check(layout, live, other)

    def test_ends_at_once_when_all_is_done_already(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 2)
        commit_all(layout)
        SegmentWriter(layout, ToyDecoder(), OLD).run(poll_seconds=0.01, stop=threading.Event())

    def test_stops_after_the_present_segment(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 3)
        stop = threading.Event()
        done: list[SegmentCommitted] = []

        def note(segment: SegmentCommitted) -> None:
            done.append(segment)
            stop.set()

        SegmentWriter(layout, ToyDecoder(), OLD, on_commit=note).run(poll_seconds=0.01, stop=stop)
        assert len(done) == 1

    def test_a_second_writer_waits_for_the_first(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 1)
        with FileLock(layout.writer_lock, thread_local=False):
            stop = threading.Event()
            thread = threading.Thread(
                target=SegmentWriter(layout, ToyDecoder(), OLD).run, kwargs={"poll_seconds": 0.01, "stop": stop}
            )
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
            assert not layout.table("ticks").exists()
            stop.set()
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        assert not layout.table("ticks").exists()
        commit_all(layout)
        check(layout, feed)


class Failing(ToyDecoder):
    """Raises on some segments, for a number of times."""

    def __init__(self, bad: Sequence[int], times: int = 1_000_000) -> None:
        super().__init__()
        self.bad = bad
        self.left = times
        self.calls = 0

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        if segment in self.bad and self.left:
            self.left -= 1
            self.calls += 1
            raise ZeroDivisionError("a bug of the decoder's")
        return super().decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)


class TestWhatCannotBeDecoded:
    def run(self, layout: DataLayout, decoder: ToyDecoder) -> SegmentWriter:
        writer = SegmentWriter(layout, decoder, retry_seconds=0)
        writer.run(poll_seconds=0.01, stop=threading.Event())
        return writer

    def test_a_segment_that_always_fails_goes_into_quarantine_whole(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 3)
        decoder = Failing([1])
        self.run(layout, decoder)
        assert decoder.calls == 3
        assert [row[1:] for row in ticks(layout)] == [
            (seq, token, price)
            for seq, (token, price) in enumerate(row[2:] for row in [*feed.ticks[:3], *feed.ticks[6:]])
        ]
        (row,) = [row for row in table(layout, "quarantine").to_pylist() if row["record"] is None]
        assert (row["stream"], row["segment"], row["offset"]) == (OLD, 1, 0)
        assert row["length"] == layout.segment(OLD, 1).stat().st_size
        assert row["reason"] == "not decoded after 3 attempts: ZeroDivisionError: a bug of the decoder's"
        assert row["date"] == datetime.date(2026, 11, 23)
        assert row["data"] is None
        assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 3
        assert segments(layout, OLD) == [1]

    def test_a_failure_that_passes_costs_nothing(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 3)
        self.run(layout, Failing([1], times=2))
        check(layout, feed)

    def test_other_streams_go_on_meanwhile(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as old, Feed(layout.root, NEW) as new:
            fill(old, 2)
            fill(new, 1, offset=5)
        done: list[SegmentCommitted] = []
        writer = SegmentWriter(layout, Failing([1], times=2), on_commit=done.append, retry_seconds=0.2)
        writer.run(poll_seconds=0.01, stop=threading.Event())
        assert [(each.stream, each.segment) for each in done] == [(OLD, 0), (NEW, 0), (OLD, 1), (OLD, 2), (NEW, 1)]
        check(layout, old, new)

    @pytest.mark.parametrize("what", ["another table", "another column", "another partition", "another count"])
    def test_a_decoder_that_returns_nonsense_is_one_that_fails(self, layout: DataLayout, what: str) -> None:
        class Wrong(ToyDecoder):
            def decode(
                self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
            ) -> Decoded:
                good = super().decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)
                if segment != 0:
                    return good
                parts = dict(good.parts)
                if what == "another table":
                    parts["candles"] = parts["ticks"]
                elif what == "another column":
                    parts["ticks"] = [Part(p.values, p.rows.drop_columns(["oi"])) for p in parts["ticks"]]
                elif what == "another partition":
                    parts["ticks"] = [Part({"date": "2026-11-23"}, p.rows) for p in parts["ticks"]]
                return Decoded(parts, good.packets + (what == "another count"))

        with Feed(layout.root, OLD) as feed:
            fill(feed, 2)
        self.run(layout, Wrong())
        assert [row[1] for row in ticks(layout)] == [0, 1, 2]
        assert "RowsError" in str(column(layout, "quarantine", "reason"))

    def test_damage_of_the_journal(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            for i in range(4):
                feed.tick((INFY, i))
                feed.flush()
                if i == 1:
                    second = layout.segment(OLD, 0).stat().st_size
                if i == 0:
                    first = layout.segment(OLD, 0).stat().st_size
        path = layout.segment(OLD, 0)
        data = bytearray(path.read_bytes())
        data[second - 1] ^= 1
        path.write_bytes(data + b"torn")
        self.run(layout, ToyDecoder())
        assert [row[3] for row in ticks(layout)] == [0.0, 0.02, 0.03]
        assert [row[1] for row in ticks(layout)] == [0, 1, 2]
        rows = table(layout, "quarantine").select(["segment", "offset", "length", "record"]).to_pylist()
        assert sorted(tuple(row.values()) for row in rows) == [
            (0, first, second - first, None),
            (0, len(data), 4, None),
        ]
        assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 0

    def test_a_segment_without_a_header(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 2)
        layout.segment(OLD, 0).write_bytes(b"short")
        self.run(layout, ToyDecoder())
        assert len(ticks(layout)) == 3
        (row,) = [row for row in table(layout, "quarantine").to_pylist() if row["record"] is None]
        assert (row["segment"], row["offset"], row["length"]) == (0, 0, 5)
        assert "got 5 bytes, expected 128" in row["reason"]

    def test_segments_that_are_gone(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 4)
        for number in (1, 2):
            layout.segment(OLD, number).unlink()
        self.run(layout, ToyDecoder())
        assert len(ticks(layout)) == 6
        (row,) = [row for row in table(layout, "quarantine").to_pylist() if row["record"] is None]
        assert (row["segment"], row["reason"]) == (1, "segments 1 to 2 are not in the journal")


class TestRetention:
    def test_only_what_is_committed_and_old(self, layout: DataLayout) -> None:
        live, old = Feed(layout.root, NEW), Feed(layout.root, OLD)
        fill(old, 2)
        old.writer.close()
        (layout.stream(OLD) / "0000000003.journal.new").write_bytes(b"left by a crash")
        fill(live, 2)
        writer = SegmentWriter(layout, ToyDecoder(), NEW)
        stop = threading.Event()
        with writer.hold(stop, 0.1):
            assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 0
            writer.advance(stop)
            now = ist_time(layout.segment(OLD, 0).stat().st_mtime_ns)
            assert len(remove_committed(layout, keep=HOUR, now=now + 0.97 * HOUR)) == 0
            os.utime(layout.segment(OLD, 0), (now.timestamp() - 200,) * 2)
            assert len(remove_committed(layout, keep=HOUR, now=now + 0.97 * HOUR)) == 1
            assert segments(layout, OLD) == [1, 2]
            assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 4
            assert streams(layout) == [NEW]
            assert segments(layout, NEW) == [2]
            live.tick((INFY, 9))
            live.writer.close()
            writer.advance(stop)
            assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 1
            assert streams(layout) == []
        check(layout, old, live)
        assert commit_all(layout) == []


def test_a_folder_that_was_moved_is_committed_from_where_it_is(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 2)
    commit_all(layout)
    moved = DataLayout(layout.root.with_name("moved"))
    shutil.move(layout.root, moved.root)
    with Feed(moved.root, NEW) as more:
        fill(more, 1, offset=9)
    commit_all(moved)
    check(moved, feed, more)
