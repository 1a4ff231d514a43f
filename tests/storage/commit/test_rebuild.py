"""Rebuild: a day made anew is the same rows, whatever form its segments have, and nothing is lost or renumbered."""

import datetime
import os
import random
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from filelock import FileLock

from ingest.wire.journal import JournalDecoder
from ingest.wire.layouts import FULL, LTP
from storage import schema
from storage.commit.decoder import Decoded, Decoder, Part
from storage.commit.rebuild import RebuildError, rebuild_day
from storage.commit.writer import SegmentWriter
from storage.errors import DataFolderError
from storage.journal.writer import Block, JournalWriter, Kind
from storage.layout import DataLayout
from storage.tables import lock
from storage.tables.symbols import SymbolLookup, write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import compact_day
from tests.support import works
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, NINE_FIFTEEN_NS, Feed, ToyDecoder, ToyWriter
from tests.support.lives import Life
from tests.support.works import Changed, one_rupee_more

OLD, NEW = "20261122T034500-aaaaaa", "20261123T034500-bbbbbb"
DAY, NEXT = datetime.date(2026, 11, 23), datetime.date(2026, 11, 24)
NAMES = ("events", "orders", "quarantine", "ticks")
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


class Failing(ToyDecoder):
    """Does not take one segment."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad

    def decode(
        self, stream: str, segment: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
    ) -> Decoded:
        if segment == self.bad:
            raise ZeroDivisionError("a bug of the decoder's")
        return super().decode(stream, segment, blocks, first_seq=first_seq, symbols=symbols)


def fill(feed: Feed, count: int, *, offset: int = 0) -> None:
    """A few segments, each with rows of every table and of several partitions."""
    for i in range(offset, offset + count):
        feed.event(f"event {i}")
        feed.tick((INFY, 100 * i), (CRUDE, i))
        feed.flush()
        feed.order(f"order {i // 2}")  # each twice
        feed.junk(b"junk %d" % i)
        feed.tick((NIFTY_FUT, 7 * i))
        feed.roll()


def commit(layout: DataLayout, decoder: Decoder | None = None) -> None:
    SegmentWriter(layout, decoder or ToyDecoder(), retry_seconds=0).run(poll_seconds=0.01, stop=threading.Event())


def table(layout: DataLayout, name: str) -> LakeTable:
    return LakeTable(layout.table(name), schema.TABLES[name]).open()


def rows_of(layout: DataLayout) -> Rows:
    """All rows of all tables, in the order of their keys."""
    found = {}
    for name in NAMES:
        rows = table(layout, name).read()
        found[name] = rows.sort_by([(key, "ascending") for key in schema.TABLES[name].key]).to_pylist()
    return found


def files_of(layout: DataLayout, name: str = "ticks") -> set[str]:
    return {entry.relative for entry in table(layout, name).snapshot().entries}


def cheaper(rows: Rows) -> Rows:
    """The rows with a rupee less in each price."""
    return rows | {"ticks": [row | {"last_price": round(row["last_price"] - 1, 2)} for row in rows["ticks"]]}


def two_streams(layout: DataLayout) -> Rows:
    """A day of two dead streams, the second one into the next day; committed. Returns the rows."""
    with Feed(layout.root, OLD) as old, Feed(layout.root, NEW) as new:
        fill(old, 3)
        fill(new, 1, offset=10)
        new.tick((INFY, 1))
        new.now_ns = NINE_FIFTEEN_NS + DAY_NS
        new.tick((INFY, 2))  # in the same segment as the one before
        new.event("another day")
        new.roll()
        fill(new, 1, offset=20)
    commit(layout)
    return rows_of(layout)


def archive(layout: DataLayout) -> None:
    assert archive_committed(layout, ToyDecoder()).unverified == []


@dataclass(frozen=True)
class Prepared:
    """A folder with `two_streams`, in one of the forms that segments and files may have."""

    archived: bool
    sealed: bool
    layout: DataLayout
    rows: Rows


@pytest.fixture(scope="module", params=[(False, False), (False, True), (True, False), (True, True)])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    archived, sealed = request.param
    layout = DataLayout(tmp_path_factory.mktemp("original"))
    rows = two_streams(layout)
    if archived:
        archive(layout)
    if sealed:
        compact_day(layout, DAY)
    return Prepared(archived, sealed, layout, rows)


@pytest.fixture
def prepared(original: Prepared, layout: DataLayout) -> Prepared:
    """A copy, with the times of the files."""
    shutil.copytree(original.layout.root, layout.root)
    return replace(original, layout=layout)


class TestWhatever:
    """Whatever form segments and files have."""

    def test_the_same_decoder_gives_the_same_rows(self, prepared: Prepared) -> None:
        layout, rows = prepared.layout, prepared.rows
        before = files_of(layout)
        outcome = rebuild_day(layout, ToyDecoder(), DAY)
        assert rows_of(layout) == rows
        assert outcome.rows == {name: sum(row["date"] == DAY for row in found) for name, found in rows.items()}
        assert (outcome.date, outcome.segments, set(outcome.stayed.values())) == (DAY, 5, {0})
        assert {path for path in before & files_of(layout) if "date=2026-11-23" in path} == set()
        assert {path for path in before ^ files_of(layout) if "date=2026-11-24" in path} == set()
        assert not list(layout.staging.rglob("*.parquet"))
        rebuild_day(layout, ToyDecoder(), DAY)
        assert rows_of(layout) == rows

    def test_another_decoder_gives_other_values_in_the_same_rows(self, prepared: Prepared) -> None:
        layout, rows = prepared.layout, prepared.rows
        rebuild_day(layout, Changed(ToyDecoder(), one_rupee_more), DAY)
        changed = [row | {"last_price": row["last_price"] + (row["date"] == DAY)} for row in rows["ticks"]]
        assert rows_of(layout) == rows | {"ticks": changed}

    @pytest.mark.parametrize("how", ["taken out", "unlinked", "flipped"])
    def test_partitions_that_were_lost_come_back(self, prepared: Prepared, how: str) -> None:
        layout, rows = prepared.layout, prepared.rows
        for name in NAMES:
            lost = [entry for entry in table(layout, name).snapshot().entries if entry.values["date"] == "2026-11-23"]
            if how == "taken out":
                table(layout, name).commit([], remove=lost)
                continue
            for entry in lost:
                path = layout.table(name) / entry.relative
                data = path.read_bytes()
                path.unlink()
                if how == "flipped":
                    path.write_bytes(bytes([*data[:9], data[9] ^ 1, *data[10:]]))
        rebuild_day(layout, ToyDecoder(), DAY)
        assert rows_of(layout) == rows

    def test_without_a_segment_it_is_refused_and_in_part_its_rows_stay(self, prepared: Prepared) -> None:
        layout, rows = prepared.layout, prepared.rows
        (layout.archive if prepared.archived else layout.segment)(OLD, 1).unlink()
        before = {name: files_of(layout, name) for name in NAMES}
        if prepared.sealed and not prepared.archived:  # nothing says which seq the segments behind it have
            with pytest.raises(RebuildError, match="not certain which seq"):
                rebuild_day(layout, ToyDecoder(), DAY, partial=True)
            return
        with pytest.raises(RebuildError) as caught:
            rebuild_day(layout, ToyDecoder(), DAY)
        assert f"segments 1 to 1 of stream {OLD} are gone" in str(caught.value)
        assert f"3 rows of ticks come from segments of stream {OLD} that are not decoded again" in str(caught.value)
        assert {name: files_of(layout, name) for name in NAMES} == before
        outcome = rebuild_day(layout, Changed(ToyDecoder(), one_rupee_more), DAY, partial=True)
        assert outcome.stayed == {"ticks": 3, "events": 1, "orders": 0, "quarantine": 1}
        stays = [(row["stream"], row["seq"]) for row in rows["ticks"][3:6]]
        assert stays == [(OLD, 3), (OLD, 4), (OLD, 5)]
        got = rows_of(layout)
        for row in got["ticks"]:
            if row["date"] == DAY and (row["stream"], row["seq"]) not in stays:
                row["last_price"] = round(row["last_price"] - 1, 2)
        assert got == rows


def real_frame(*packets: tuple[int, int]) -> bytes:
    """A frame of ltp packets: token and price in paise, big-endian (the broker's documentation of its binary form)."""
    body = b"".join(b"\0\x08" + np.array(each, ">i4").tobytes() for each in packets)
    return len(packets).to_bytes(2, "big") + body


def test_the_real_decoder(layout: DataLayout) -> None:
    assert LTP.length == 8 < FULL.length
    writer = JournalWriter(layout, OLD, segment_seconds=1e9)
    channel = writer.channel("asha", 1)
    for i in range(30):
        writer.append(Kind.BINARY, channel, NINE_FIFTEEN_NS + i, real_frame((INFY, 150_000 + i), (CRUDE, 5000 + i)))
        writer.append(Kind.BINARY, channel, NINE_FIFTEEN_NS + i, b"\0")
        writer.append(Kind.BINARY, channel, NINE_FIFTEEN_NS + i, b"\0\1\0\5abcde")
        writer.segment_bytes = 0 if i % 10 == 9 else 1 << 20
        writer.flush()
    writer.close()
    commit(layout, JournalDecoder())
    rows = rows_of(layout)
    assert (len(rows["ticks"]), len(rows["quarantine"])) == (60, 30)
    assert archive_committed(layout, JournalDecoder()).segments == 4
    rebuild_day(layout, JournalDecoder(), DAY)
    assert rows_of(layout) == rows
    rebuild_day(layout, Changed(JournalDecoder(), one_rupee_more), DAY)
    assert cheaper(rows_of(layout)) == rows


@pytest.mark.slow
def test_the_begin_of_a_stream_may_be_gone(layout: DataLayout) -> None:
    """Where its footer, or a file that is named after it, says which seq the first segment left begins with."""
    with Feed(layout.root, OLD) as feed:
        fill(feed, 2)
        feed.now_ns += DAY_NS
        fill(feed, 3)
    commit(layout)
    rows = rows_of(layout)
    for number in (0, 1):
        layout.segment(OLD, number).unlink()
    rebuild_day(layout, ToyDecoder(), NEXT)
    assert rows_of(layout) == rows
    archive(layout)
    compact_day(layout, NEXT)
    rebuild_day(layout, ToyDecoder(), NEXT)
    assert rows_of(layout) == rows
    with pytest.raises(RebuildError, match="got no committed record of it in the journal, expected some"):
        rebuild_day(layout, ToyDecoder(), DAY)


def test_instrument_lists_of_today_give_the_names(layout: DataLayout) -> None:
    two_streams(layout)
    names = schema.INSTRUMENTS.file_schema.names
    row = dict.fromkeys(names) | {"instrument_token": INFY, "symbol": "NSE:INFY"}
    write_instruments(layout, DAY, pa.Table.from_pylist([row], schema=schema.INSTRUMENTS.file_schema))
    rebuild_day(layout, ToyDecoder(), DAY)
    named = {(row["date"], row["instrument_token"]) for row in rows_of(layout)["ticks"] if row["symbol"] == "NSE:INFY"}
    assert named == {(DAY, INFY)}


class TestNumbersOfPackets:
    """A decoder that finds other packets than before."""

    def twice(self, stream: str, segment: int) -> Decoder:
        """A decoder that finds one packet more in one segment, and numbers what comes behind it accordingly."""

        class Twice(ToyDecoder):
            def decode(
                self, got: str, number: int, blocks: Sequence[Block], *, first_seq: int, symbols: SymbolLookup
            ) -> Decoded:
                decoded = super().decode(got, number, blocks, first_seq=first_seq, symbols=symbols)
                if (got, number) != (stream, segment):
                    return decoded
                first, *others = decoded.parts["ticks"]
                last = first.rows.slice(0, 1).cast(schema.TICKS.file_schema).to_pylist()[0]
                more = pa.Table.from_pylist(
                    [last | {"seq": first_seq + decoded.packets}], schema=schema.TICKS.file_schema
                )
                rows = pa.concat_tables([first.rows.cast(schema.TICKS.file_schema), more])
                return Decoded({**decoded.parts, "ticks": [Part(first.values, rows), *others]}, decoded.packets + 1)

        return Twice()

    def test_one_more_at_the_end_of_a_dead_stream(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 3)
        commit(layout)
        rebuild_day(layout, self.twice(OLD, 1), DAY)
        rows = rows_of(layout)["ticks"]
        assert [row["seq"] for row in rows] == list(range(10))
        assert table(layout, "ticks").transaction(f"{OLD}/seq") == 10
        rebuild_day(layout, self.twice(OLD, 1), DAY)
        assert rows_of(layout)["ticks"] == rows

    def test_one_less_is_refused(self, layout: DataLayout) -> None:
        rows = two_streams(layout)
        less = Changed(ToyDecoder(), lambda rows: rows.filter(pc.not_equal(rows.column("seq"), 4)))
        with pytest.raises(RebuildError, match="got 8 packets, expected 9"):
            rebuild_day(layout, less, DAY)
        assert rows_of(layout) == rows

    @pytest.mark.parametrize("archived", [False, True])
    def test_one_more_where_the_stream_goes_on_is_refused(self, layout: DataLayout, archived: bool) -> None:
        rows = two_streams(layout)
        if archived:
            archive(layout)
        with pytest.raises(RebuildError, match="got 6 packets, expected 5: other rows of the stream would need"):
            rebuild_day(layout, self.twice(NEW, 0), DAY)
        assert rows_of(layout) == rows

    def test_a_segment_that_was_given_up_comes_back_when_the_decoder_is_mended(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 3)
        commit(layout, Failing(1))
        given_up = rows_of(layout)
        assert len(given_up["ticks"]) == 6
        rebuild_day(layout, Failing(1), DAY)
        assert rows_of(layout) == given_up
        rebuild_day(layout, ToyDecoder(), DAY)
        rows = rows_of(layout)
        assert [(row["seq"], row["last_price"]) for row in rows["ticks"]] == [row[1::2] for row in feed.ticks]
        assert all(row["record"] is not None for row in rows["quarantine"])

    def test_a_segment_that_the_decoder_took_before_and_does_not_now(self, layout: DataLayout) -> None:
        rows = two_streams(layout)
        with pytest.raises(RebuildError, match=f"segment {OLD}/1: cannot be decoded: ZeroDivisionError"):
            rebuild_day(layout, Failing(1), DAY)
        assert rows_of(layout) == rows


def test_damage_of_the_journal_stays_recorded(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 4)
    path = layout.segment(OLD, 1)
    data = bytearray(path.read_bytes())
    data[data.index(b"junk 1")] ^= 1
    path.write_bytes(data)
    layout.segment(OLD, 2).unlink()
    layout.segment(OLD, 3).write_bytes(b"short")
    os.utime(layout.segment(OLD, 3), (NINE_FIFTEEN_NS / 1e9, NINE_FIFTEEN_NS / 1e9))
    commit(layout)
    rows = rows_of(layout)
    assert [row["reason"][:12] for row in rows["quarantine"] if row["record"] is None] == [
        "block: got b",
        "segments 2 t",
        "not decoded ",
    ]
    rebuild_day(layout, ToyDecoder(), DAY)
    assert rows_of(layout) == rows


def test_an_archive_that_is_damaged_is_missing(layout: DataLayout) -> None:
    rows = two_streams(layout)
    archive(layout)
    path = layout.archive(OLD, 2)
    path.write_bytes(path.read_bytes()[:-1])
    table(layout, "ticks").commit(
        [], remove=[each for each in table(layout, "ticks").snapshot().entries if f"{OLD}-0000000002" in each.relative]
    )
    with pytest.raises(RebuildError, match="got no footer"):
        rebuild_day(layout, ToyDecoder(), DAY)
    rebuild_day(layout, ToyDecoder(), DAY, partial=True)
    assert rows_of(layout) == rows | {"ticks": rows["ticks"][:6] + rows["ticks"][9:]}


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_replaced_only_by_as_many_rows(layout: DataLayout) -> None:
    two_streams(layout)
    archive(layout)
    compact_day(layout, DAY)
    (path,) = layout.table("ticks").glob("date=2026-11-23/exchange=MCX/sealed-*.parquet")
    path.write_bytes(b"")
    layout.archive(OLD, 1).unlink()
    with pytest.raises(RebuildError, match=r"cannot be read, and the journal has 3 rows of its partition, expected 4"):
        rebuild_day(layout, ToyDecoder(), DAY, partial=True)


def test_one_at_a_time(layout: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    two_streams(layout)
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.1)
    with (
        FileLock(layout.seal_lock, thread_local=False),
        pytest.raises(DataFolderError, match="another process swaps files"),
    ):
        rebuild_day(layout, ToyDecoder(), DAY)


def test_nothing_is_committed_yet(layout: DataLayout) -> None:
    with Feed(layout.root, OLD) as feed:
        fill(feed, 1)
    with pytest.raises(RebuildError, match="nothing is committed, so there is nothing to rebuild"):
        rebuild_day(layout, ToyDecoder(), DAY)


class TestLive:
    def test_only_what_is_committed_is_rebuilt(self, layout: DataLayout) -> None:
        feed = Feed(layout.root, OLD)
        fill(feed, 3)
        writer = SegmentWriter(layout, ToyDecoder(), OLD)
        stop = threading.Event()
        with writer.hold(stop, 0.1):
            writer.advance(stop)
            rows = rows_of(layout)
            fill(feed, 2, offset=3)
            marks = table(layout, "ticks").snapshot().watermark(OLD)

            def step(name: str) -> None:
                if name == "staged":
                    writer.advance(stop)  # commits the two between decoding and swapping

            outcome = rebuild_day(layout, Changed(ToyDecoder(), one_rupee_more), DAY, after_step=step)
            assert outcome.segments == 3
            got = rows_of(layout)
            assert cheaper(got | {"ticks": got["ticks"][:9]})["ticks"] == rows["ticks"]
            assert [row["last_price"] for row in got["ticks"][9:]] == [row[3] for row in feed.ticks[9:]]
            feed.writer.close()
            writer.advance(stop)
        assert [row["seq"] for row in rows_of(layout)["ticks"]] == list(range(15))
        assert [row["order_id"] for row in rows_of(layout)["orders"]] == ["order 0", "order 1", "order 2"]
        assert marks is not None
        after = table(layout, "ticks").snapshot().watermark(OLD)
        assert after is not None
        assert (after.segment, after.next_seq) == (5, 15)

    @pytest.mark.slow
    def test_rows_of_a_segment_that_is_half_committed_stay(self, layout: DataLayout) -> None:
        """A writer that died after events and before ticks."""

        with Feed(layout.root, OLD) as feed:
            fill(feed, 4)
        stop = threading.Event()
        writer = SegmentWriter(layout, ToyDecoder(), on_commit=lambda done: stop.set() if done.segment == 1 else None)
        writer.run(poll_seconds=0.01, stop=stop)
        for name in ToyWriter(layout.root).steps(OLD, 2):
            if name == "ticks":
                break
        rows = rows_of(layout)
        assert (len(rows["ticks"]), len(rows["events"])) == (6, 3)
        compact_day(layout, DAY)
        assert rebuild_day(layout, ToyDecoder(), DAY).segments == 2
        assert rows_of(layout) == rows
        commit(layout)
        assert len(rows_of(layout)["events"]) == 4
        assert [row["seq"] for row in rows_of(layout)["ticks"]] == list(range(12))

    @pytest.mark.slow
    def test_beside_a_writer_that_commits_all_the_time(self, layout: DataLayout) -> None:
        feed = Feed(layout.root, OLD)
        committed = threading.Event()
        writer = SegmentWriter(layout, ToyDecoder(), OLD, on_commit=lambda _done: committed.set())
        thread = threading.Thread(target=writer.run, kwargs={"poll_seconds": 0.001, "stop": threading.Event()})
        thread.start()
        fill(feed, 2)
        assert committed.wait(30)
        for i in range(2, 18, 4):
            fill(feed, 4, offset=i)
            rebuild_day(layout, ToyDecoder(), DAY)
        feed.writer.close()
        thread.join(60)
        assert not thread.is_alive()
        rows = rows_of(layout)
        assert [(row["seq"], row["last_price"]) for row in rows["ticks"]] == [row[1::2] for row in feed.ticks]
        assert [row["event"] for row in rows["events"]] == [name for _, name in feed.events]
        assert [row["order_id"] for row in rows["orders"]] == sorted(set(feed.orders), key=feed.orders.index)
        assert [row["data"] for row in rows["quarantine"]] == feed.bad


@pytest.mark.slow
class TestDeath:
    def check(self, layout: DataLayout, rows: Rows) -> bool:
        """Each table has its old rows or its new ones, whole; whether ticks have the new ones."""
        got = rows_of(layout)
        assert {name: got[name] for name in NAMES[:3]} == {name: rows[name] for name in NAMES[:3]}
        if got["ticks"] == rows["ticks"]:
            return False
        assert cheaper(got)["ticks"] == rows["ticks"]
        return True

    def prepare(self, layout: DataLayout) -> Rows:
        with Feed(layout.root, OLD) as feed:
            fill(feed, 2)
        commit(layout)
        archive(layout)
        return rows_of(layout)

    @pytest.mark.parametrize(("steps", "done"), [(2, False), (5, False), (10, False), (11, True)])
    def test_after_a_step(self, layout: DataLayout, steps: int, done: bool) -> None:
        rows = self.prepare(layout)
        assert Life(works.rebuild, layout.root, steps).wait()
        assert self.check(layout, rows) == done
        rebuild_day(layout, Changed(ToyDecoder(), one_rupee_more), DAY)
        assert self.check(layout, rows)
        assert not list(layout.staging.rglob("*.parquet"))

    def test_at_any_moment(self, layout: DataLayout) -> None:
        rows = self.prepare(layout)
        rng = random.Random(5)
        for _ in range(3):
            with Life(works.rebuild, layout.root) as life:
                time.sleep(rng.uniform(0, 0.3))  # the moment is the point: any will do
                life.kill()
            self.check(layout, rows)
        rebuild_day(layout, ToyDecoder(), DAY)
        assert rows_of(layout) == rows
