"""Repeated records in the tables and in the live tail: each a row once, with the same `seq` however it is read."""

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage.journal.segment
from queries.tail.tail import NOTHING, Tail, list_journal
from storage import schema
from storage.commit.writer import SegmentWriter
from storage.errors import JournalSyncError
from storage.files import sync_data
from storage.journal import JournalWriter, SegmentReader, segments
from storage.layout import DataLayout
from storage.tables.table import LakeTable
from tests.support.lake import INFY, Feed, ToyDecoder
from tests.support.scaled import scaled

STREAM = "20261123T034500-aaaaaa"
Row = tuple[int, float]  # seq, price


class SqlLake:
    """A live stream whose disk fails on demand, the writer that commits it, and a tail behind what is committed."""

    def __init__(self, root: Path) -> None:
        self.layout = DataLayout(root)
        self.now = 0.0
        self.feed = Feed(root, STREAM)
        self.journal.flush()  # the channel, so that no other block has a table
        self.journal._monotonic = lambda: self.now  # rewriting waits for a pause, which is tested elsewhere
        self.written = 0
        self.damaged = False
        self.spared: int | None = None  # so many syncs of files succeed before one fails
        self.decoder = ToyDecoder()
        self.stop = threading.Event()
        self.committer = SegmentWriter(self.layout, self.decoder, STREAM, retry_seconds=0)
        self._held = self.committer.hold(self.stop, 0.1)
        assert self._held.__enter__()
        self.tail = Tail(self.layout, self.decoder)

    @property
    def journal(self) -> JournalWriter:
        return self.feed.writer

    def close(self) -> None:
        self.tail.close()
        self.committer._forget_loaded()
        self._held.__exit__(None, None, None)
        self.journal.close()

    def sync_data(self, descriptor: int) -> None:
        if self.spared == 0:
            raise OSError(5, "Input/output error")
        if self.spared:
            self.spared -= 1
        sync_data(descriptor)

    def append(self) -> None:
        self.feed.tick((INFY, len(self.feed.ticks)), (INFY, len(self.feed.ticks) + 1))
        self.feed.event(f"event {len(self.feed.events)}")

    def flush(self) -> None:
        self.now += 1000
        self.feed.flush()
        self.written, self.damaged = len(self.feed.ticks), False

    def roll(self) -> None:
        self.now += 1000
        self.feed.roll()
        self.written, self.damaged = len(self.feed.ticks), False

    def fail(self, spared: int = 0) -> None:
        """A sync that fails, if there is so much to sync."""
        self.spared = spared
        with contextlib.suppress(JournalSyncError):
            self.journal.sync()
        self.spared = None

    def lose(self, rng: random.Random) -> None:
        """Some of what a failed sync was for is lost before the journal writes it again."""
        if not self.journal._unsynced.failed:
            self.fail()
        if self.journal._unsynced.failed:
            # Not the channel tables: the toy decoder cannot do without.
            blocks = [
                (each.path, block)
                for each in self.journal._unsynced._segments
                for block in each.unsynced
                if block.records
            ]
            for path, block in rng.sample(blocks, k=rng.randrange(len(blocks) + 1)):
                ruin(path, block.first_record)
                self.damaged = True

    def crash(self) -> None:
        """The process ends: nothing more is written, and the stream is dead."""
        for segment in self.journal._unsynced._segments:
            segment.close()
        self.journal._closed = True
        self.journal._alive.release()

    def commit(self) -> None:
        while self.committer.advance(self.stop):
            pass

    def rows(self) -> list[Row]:
        """What a query sees: the committed rows, and those of the tail."""
        ticks = LakeTable(self.layout.table("ticks"), schema.TICKS).open()
        mark = ticks.snapshot().watermark(STREAM) or NOTHING
        committed = ticks.read()
        found = self.tail.read(lambda _: mark, seen=list_journal(self.layout))
        live = (ticks for segment in found for piece in segment.pieces for ticks in piece.ticks)
        everything = [committed, *(ticks.decode(("seq", "last_price"), lambda _: None) for ticks in live)]
        pairs = [zip(each["seq"].to_pylist(), each["last_price"].to_pylist(), strict=True) for each in everything]
        return sorted(pair for some in pairs for pair in some)

    def events(self) -> list[str]:
        rows = LakeTable(self.layout.table("events"), schema.EVENTS).open().read()
        return sorted(rows["event"].to_pylist(), key=lambda name: int(name.split()[1]))


def ruin(path: Path, record: int) -> None:
    """Zeros instead of the block that begins with a record; nothing if that is the seal."""
    with SegmentReader(path) as reader:
        found = [block for block in reader.read() if block.first_record == record]
    for block in found:
        with path.open("r+b") as file:
            file.seek(block.offset)
            file.write(bytes(block.size))


@contextlib.contextmanager
def lake_at(root: Path) -> Iterator[SqlLake]:
    lake = SqlLake(root)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(storage.journal.segment, "sync_data", lake.sync_data)
        try:
            yield lake
        finally:
            lake.close()


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[SqlLake]:
    with lake_at(tmp_path) as lake:
        yield lake


def expected(lake: SqlLake, count: int) -> list[Row]:
    return [(seq, price) for _, seq, _, price in lake.feed.ticks[:count]]


def test_a_failed_segment_that_is_committed_before_it_is_repeated(lake: SqlLake) -> None:
    lake.append()
    lake.roll()
    lake.fail()
    lake.commit()
    assert lake.rows() == expected(lake, 2)
    lake.append()
    lake.flush()  # begins with what was committed
    assert lake.rows() == expected(lake, 4)
    lake.journal.close()
    lake.commit()
    assert lake.rows() == expected(lake, 4)
    assert lake.events() == ["event 0", "event 1"]


def test_a_failed_segment_that_is_committed_after_it_is_repeated(lake: SqlLake) -> None:
    lake.append()
    lake.roll()
    lake.append()
    lake.fail()
    lake.flush()
    assert segments(lake.layout, STREAM) == [0, 1, 2]
    assert lake.rows() == expected(lake, 4)
    lake.commit()
    assert lake.rows() == expected(lake, 4)
    lake.journal.close()
    lake.commit()
    assert lake.rows() == expected(lake, 4)


def test_what_is_lost_in_the_middle_comes_again_in_its_place(lake: SqlLake) -> None:
    for _ in range(3):
        lake.append()
        lake.flush()
    lake.roll()
    lake.fail()
    ruin(lake.layout.segment(STREAM, 0), 4)  # the table, the channel, and of each append a tick and an event
    assert lake.rows() == expected(lake, 2)
    lake.commit()  # it waits: that it is lost for good is not certain yet
    assert lake.rows() == expected(lake, 2)
    lake.flush()
    assert lake.rows() == expected(lake, 6)
    lake.commit()
    assert lake.rows() == expected(lake, 6)
    lake.journal.close()
    lake.commit()
    assert lake.rows() == expected(lake, 6)
    assert lake.events() == ["event 0", "event 1", "event 2"]
    damage = LakeTable(lake.layout.table("quarantine"), schema.QUARANTINE).open().read().to_pylist()
    assert [(row["segment"], row["record"]) for row in damage] == [(0, None)]


def test_what_was_on_disk_and_is_damaged_later_holds_nobody_up_for_long(lake: SqlLake) -> None:
    for _ in range(3):
        lake.append()
        lake.flush()
    lake.journal.sync()
    ruin(lake.layout.segment(STREAM, 0), 4)
    found = []
    for _ in range(3):
        lake.roll()
        lake.commit()
        found.append([price for _, price in lake.rows()])
        lake.append()
        lake.flush()
        lake.journal.sync()
    # The next header still counts the segment, because its seal was not on disk; the one after that does not.
    assert found == [[0.0, 0.01], [0.0, 0.01, 0.04, 0.05, 0.06, 0.07], [0.0, 0.01, *(0.04 + i / 100 for i in range(6))]]


@pytest.mark.slow
def test_a_damaged_segment_that_nothing_follows_waits_only_as_long_as_the_stream_lives(lake: SqlLake) -> None:
    for _ in range(3):
        lake.append()
        lake.flush()
    ruin(lake.layout.segment(STREAM, 0), 4)
    assert [price for _, price in lake.rows()] == [0.0, 0.01]
    lake.crash()
    assert [price for _, price in lake.rows()] == [0.0, 0.01, 0.04, 0.05]
    lake.commit()
    assert lake.rows() == [(0, 0.0), (1, 0.01), (2, 0.04), (3, 0.05)]


def test_a_writer_that_dies_between_two_commits_of_what_is_damaged_then(lake: SqlLake) -> None:
    """The events of the failed segment are committed, and its ticks come from the one that repeats it."""

    class DiedError(Exception):
        pass

    def step(name: str) -> None:
        if name == "events committed":
            raise DiedError

    for _ in range(3):
        lake.append()
        lake.flush()
    lake.roll()
    lake.committer._after_step = step
    with pytest.raises(DiedError):
        lake.commit()
    lake.committer._after_step = lambda _step: None
    lake.committer._forget_loaded()
    lake.fail()
    ruin(lake.layout.segment(STREAM, 0), 4)
    lake.flush()
    lake.journal.close()
    lake.commit()
    assert lake.rows() == expected(lake, 6)
    assert lake.events() == ["event 0", "event 1", "event 2"]


ACTIONS = ("append", "append", "flush", "flush", "sync", "fail", "lose", "roll", "commit", "look")
stories = st.lists(st.sampled_from(ACTIONS), min_size=5, max_size=40)


def play(lake: SqlLake, story: list[str], end: str, rng: random.Random) -> None:
    for action in story:
        match action:
            case "sync":
                lake.journal.sync()
            case "fail":
                lake.fail(rng.randrange(3))
            case "lose":
                lake.lose(rng)
            case "look":
                rows = lake.rows()
                assert rows == expected(lake, len(rows)), "a prefix, each with its seq"
                assert lake.damaged or len(rows) == lake.written
            case _:
                getattr(lake, action)()
    durable = lake.journal.durable_records
    if end == "close":
        lake.now += 1000
        lake.journal.close()
        lake.written, lake.damaged = len(lake.feed.ticks), False
    else:
        lake.crash()
    before = lake.rows()
    lake.commit()
    after = lake.rows()
    assert segments(lake.layout, STREAM)[-1] == lake.committer._tables["ticks"].transaction(STREAM)
    if not lake.damaged:
        assert before == after == expected(lake, lake.written), "the same rows, committed or not"
        assert lake.events() == [name for _, name in lake.feed.events[: lake.written // 2]]
        return
    # The process ended with the disk's loss not made up for, and the writer may have read what was lost: all that was
    # durable is there, and nothing twice.
    for rows in (before, after):
        assert [seq for seq, _ in rows] == list(range(len(rows)))
        prices = [price for _, price in rows]
        assert prices == sorted(set(prices))
        assert prices[:durable] == [price for _, price in expected(lake, durable)]


COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.mark.slow
@settings(max_examples=scaled(12, 40), **COMMON)  # type: ignore[arg-type]
@given(story=stories, end=st.sampled_from(["close", "crash"]), seed=st.integers(0, 2**32))
def test_whatever_fails_each_written_record_is_a_row_once(
    tmp_path_factory: pytest.TempPathFactory, story: list[str], end: str, seed: int
) -> None:
    with lake_at(tmp_path_factory.mktemp("lake")) as lake:
        play(lake, story, end, random.Random(seed))


@pytest.mark.soak
@settings(max_examples=2000, **COMMON)  # type: ignore[arg-type]
@given(story=stories, end=st.sampled_from(["close", "crash"]), seed=st.integers(0, 2**32))
def test_thousands_of_stories(tmp_path_factory: pytest.TempPathFactory, story: list[str], end: str, seed: int) -> None:
    with lake_at(tmp_path_factory.mktemp("lake")) as lake:
        play(lake, story, end, random.Random(seed))
