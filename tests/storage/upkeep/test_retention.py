"""Retention: what may go goes, oldest first, and what is needed stays."""

import datetime
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from filelock import FileLock

from storage import schema
from storage.clock import ist_time, nanoseconds
from storage.commit.writer import SegmentWriter
from storage.errors import DataFolderError
from storage.journal import segments, streams
from storage.layout import DataLayout
from storage.tables import lock
from storage.tables.symbols import write_instruments
from storage.tables.table import LakeTable
from storage.upkeep.archive import archive_committed
from storage.upkeep.compact import compact_day
from storage.upkeep.retention import Decision, SegmentRule, SegmentState, remove_committed, remove_days
from tests.support.committing import commit_all as commit
from tests.support.lake import CRUDE, DAY_NS, INFY, NINE_FIFTEEN_NS, Feed, ToyDecoder
from tests.support.rebuilding import table

pytestmark = pytest.mark.slow

OLD, NEW = "20261122T034500-aaaaaa", "20261123T034500-bbbbbb"
FIRST = datetime.date(2026, 11, 23)
HOUR, DAY, SECOND = datetime.timedelta(hours=1), datetime.timedelta(days=1), datetime.timedelta(seconds=1)
NOON = ist_time(NINE_FIFTEEN_NS) + 2.75 * HOUR  # of the first day
FAR = NOON + 10_000 * DAY


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "data")


def archive(layout: DataLayout) -> None:
    assert archive_committed(layout, ToyDecoder()).unverified == []


def days_stream(layout: DataLayout, days: int) -> Feed:
    """A dead stream with a segment a day, last written at noon of the day, and a last one with no rows; committed."""
    with Feed(layout.root, OLD) as feed:
        for day in range(days):
            feed.now_ns = NINE_FIFTEEN_NS + day * DAY_NS
            feed.event(f"day {day}")
            feed.tick((INFY, day), (CRUDE, day))
            feed.junk(b"junk")
            feed.order(f"order {day}")
            feed.roll()
    for number in segments(layout, OLD):
        seconds = (NOON + min(number, days - 1) * DAY).timestamp()
        os.utime(layout.segment(OLD, number), (seconds, seconds))
    commit(layout)
    return feed


def days_of(layout: DataLayout, name: str) -> list[int]:
    """The days that a table has, counted from the first."""
    dates = {entry.values["date"] for entry in table(layout, name).snapshot().entries}
    return sorted((datetime.date.fromisoformat(date) - FIRST).days for date in dates)


def tables(layout: DataLayout) -> list[list[int]]:
    return [days_of(layout, name) for name in ("ticks", "orders", "events", "quarantine")]


class TestDecision:
    """One segment, and a rule by which it may go if it was written before noon of the first day."""

    AT = nanoseconds(NOON)
    OLD_ENOUGH = SegmentState(AT - 1, is_committed=True)

    @pytest.mark.parametrize(
        ("changed", "decision"),
        [
            ({}, Decision.REMOVE),
            ({"written_ns": AT}, Decision.REMOVE),
            ({"written_ns": AT + 1}, Decision.STOP),
            ({"is_committed": False}, Decision.STOP),
            ({"is_committed": False, "is_damaged": True}, Decision.STOP),
            ({"is_damaged": True}, Decision.KEEP),
            ({"is_unverified": True}, Decision.KEEP),
            ({"is_plain": True}, Decision.REMOVE),
        ],
    )
    def test_by_age(self, changed: dict[str, Any], decision: Decision) -> None:
        assert SegmentRule(self.AT, datetime.date.min).decide(replace(self.OLD_ENOUGH, **changed)) is decision

    @pytest.mark.parametrize(
        ("changed", "decision"),
        [
            ({}, Decision.REMOVE),
            ({"is_plain": True}, Decision.STOP),
            ({"is_plain": True, "is_unverified": True}, Decision.KEEP),
            ({"is_plain": True, "is_damaged": True}, Decision.KEEP),
        ],
    )
    def test_only_archived_ones(self, changed: dict[str, Any], decision: Decision) -> None:
        rule = SegmentRule(self.AT, datetime.date.min, archived_only=True)
        assert rule.decide(replace(self.OLD_ENOUGH, **changed)) is decision

    @pytest.mark.parametrize("changed", [{}, {"is_damaged": True}, {"is_unverified": True}, {"is_plain": True}])
    def test_what_the_tables_have_lost_goes_whatever_is_wrong_with_it(self, changed: dict[str, Any]) -> None:
        rule = SegmentRule(self.AT - 10**18, FIRST + DAY, archived_only=True)
        assert rule.decide(replace(self.OLD_ENOUGH, **changed)) is Decision.REMOVE
        later = replace(self.OLD_ENOUGH, written_ns=nanoseconds(NOON + DAY), **changed)
        assert rule.decide(later) is Decision.STOP
        assert rule.decide(replace(self.OLD_ENOUGH, is_committed=False)) is Decision.STOP


class TestSegments:
    def test_plain_and_archived_ones_go_at_the_same_age(self, layout: DataLayout) -> None:
        days_stream(layout, 3)
        plain = layout.segment(OLD, 0).read_bytes()
        archive(layout)
        layout.archive(OLD, 0).unlink()
        layout.segment(OLD, 0).write_bytes(plain)
        os.utime(layout.segment(OLD, 0), (NOON.timestamp(),) * 2)
        for late in (-SECOND, SECOND):
            removed = remove_committed(layout, keep=7 * DAY, now=NOON + 7 * DAY + late)
            assert removed == [layout.segment(OLD, 0)][: late == SECOND]
        for late in (-SECOND, SECOND):
            removed = remove_committed(layout, keep=7 * DAY, now=NOON + 8 * DAY + late)
            assert removed == [layout.archive(OLD, 1)][: late == SECOND]
        remove_committed(layout, keep=HOUR, now=FAR)
        assert streams(layout) == []

    def test_both_forms_go_together(self, layout: DataLayout) -> None:
        days_stream(layout, 1)
        data = layout.segment(OLD, 0).read_bytes()
        archive(layout)
        layout.segment(OLD, 0).write_bytes(data)
        os.utime(layout.segment(OLD, 0), (NOON.timestamp(),) * 2)
        assert remove_committed(layout, keep=DAY, now=NOON + DAY + SECOND)[:2] == [
            layout.segment(OLD, 0),
            layout.archive(OLD, 0),
        ]

    def test_the_last_segment_of_a_live_stream_and_what_is_not_committed_stay(self, layout: DataLayout) -> None:
        feed = Feed(layout.root, NEW)
        assert remove_committed(layout, keep=HOUR, now=FAR) == []  # no tables yet
        for i in range(3):
            feed.tick((INFY, i))
            feed.roll()
        writer = SegmentWriter(layout, ToyDecoder(), NEW)
        with writer.hold(threading.Event(), 0.1):
            writer.advance(threading.Event())
            feed.tick((INFY, 3))
            feed.roll()
            assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 3
            assert segments(layout, NEW) == [3, 4]
            feed.writer.close()
            writer.advance(threading.Event())
        assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 2
        assert streams(layout) == []

    def test_a_segment_that_is_committed_late_verifies(self, layout: DataLayout) -> None:
        """Also when those before it are old and its day is sealed first."""
        with Feed(layout.root, OLD) as feed:
            for i in range(3):
                feed.tick((INFY, i), (CRUDE, i))
                feed.roll()
        stop = threading.Event()
        SegmentWriter(layout, ToyDecoder(), on_commit=lambda _done: stop.set()).run(poll_seconds=0.01, stop=stop)
        assert table(layout, "ticks").transaction(OLD) == 0
        archive(layout)
        remove_committed(layout, keep=HOUR, now=FAR)
        commit(layout)
        compact_day(layout, FIRST)
        archive(layout)
        remove_committed(layout, keep=HOUR, now=FAR)
        assert streams(layout) == []

    def test_what_did_not_verify_stays_until_it_does(self, layout: DataLayout) -> None:
        days_stream(layout, 2)
        ticks = table(layout, "ticks")
        lost = [entry for entry in ticks.snapshot().entries if f"MCX/{OLD}-0000000001" in entry.relative]
        ticks.commit([], remove=lost)
        assert [found.segment for found in archive_committed(layout, ToyDecoder()).unverified] == [1]
        remove_committed(layout, keep=HOUR, now=FAR)
        assert segments(layout, OLD) == [1]
        ticks.commit([replace(file, stats='{"numRecords": 1}') for file in lost])
        archive(layout)
        remove_committed(layout, keep=HOUR, now=FAR)
        assert streams(layout) == []

    def test_only_archived_ones(self, layout: DataLayout) -> None:
        """Damaged and unverified ones stay plain; what is behind them is not held back, as it is by one that waits."""
        days_stream(layout, 5)
        path = layout.segment(OLD, 0)
        path.write_bytes(path.read_bytes()[:-1])
        archive_committed(layout, ToyDecoder())
        layout.segment(OLD, 3).write_bytes(b"")
        removed = remove_committed(layout, keep=HOUR, now=FAR, archived_only=True)
        assert removed == [layout.archive(OLD, 1), layout.archive(OLD, 2)]

    def test_damage_stays(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            for i in range(3):
                feed.tick((INFY, i))
                feed.roll()
        path = layout.segment(OLD, 1)
        path.write_bytes(path.read_bytes() + b"torn")
        commit(layout)
        archive(layout)
        assert len(remove_committed(layout, keep=HOUR, now=FAR)) == 3
        assert list(path.parent.glob("*.journal*")) == [path]

    def test_segments_of_days_that_are_gone_from_the_tables_go_with_them(self, layout: DataLayout) -> None:
        days_stream(layout, 5)
        archive(layout)
        path = layout.archive(OLD, 1)
        layout.unverified(OLD, 0).write_text("it had a note, too")
        now = NOON + 4 * DAY
        assert remove_committed(layout, keep=30 * DAY, now=now) == []
        remove_days(layout, keep_days=2, most_bytes=None, today=FIRST + 4 * DAY)
        assert remove_committed(layout, keep=30 * DAY, now=now) == [layout.archive(OLD, 0), path]
        assert segments(layout, OLD) == [2, 3, 4, 5]
        assert not layout.unverified(OLD, 0).exists()

    def test_a_segment_whose_day_is_gone_in_part_verifies_by_what_is_left(self, layout: DataLayout) -> None:
        with Feed(layout.root, OLD) as feed:
            feed.tick((INFY, 1))
            feed.now_ns += 2 * DAY_NS
            feed.tick((INFY, 2))
        commit(layout)
        assert remove_days(layout, keep_days=1, most_bytes=None, today=FIRST + 2 * DAY) == [FIRST]
        archive(layout)
        assert layout.archive(OLD, 0).exists()


class TestDays:
    def test_off_by_default(self, layout: DataLayout) -> None:
        days_stream(layout, 5)
        assert remove_days(layout, keep_days=None, most_bytes=None, today=FIRST + 4000 * DAY) == []
        assert tables(layout) == [[0, 1, 2, 3, 4]] * 4

    def test_by_age(self, layout: DataLayout) -> None:
        days_stream(layout, 5)
        assert remove_days(layout, keep_days=3, most_bytes=None, today=FIRST + 3 * DAY) == []
        versions = [table(layout, name).snapshot().version for name in ("ticks", "events")]
        assert remove_days(layout, keep_days=2, most_bytes=None, today=FIRST + 4 * DAY) == [FIRST, FIRST + DAY]
        assert tables(layout) == [[2, 3, 4]] * 4
        assert [table(layout, name).snapshot().version for name in ("ticks", "events")] == [v + 1 for v in versions]
        assert len(list(layout.table("ticks").glob("date=*"))) == 5  # the files stay for readers of older versions
        assert remove_days(layout, keep_days=2, most_bytes=None, today=FIRST + 4 * DAY) == []

    @pytest.mark.parametrize(("keep_days", "most_bytes"), [(0, None), (None, 0), (0, 0)])
    def test_today_and_yesterday_stay(self, layout: DataLayout, keep_days: int | None, most_bytes: int | None) -> None:
        days_stream(layout, 4)
        removed = remove_days(layout, keep_days=keep_days, most_bytes=most_bytes, today=FIRST + 3 * DAY)
        assert removed == [FIRST, FIRST + DAY]
        assert tables(layout) == [[2, 3]] * 4

    def test_until_the_rest_fits(self, layout: DataLayout) -> None:
        days_stream(layout, 6)
        names = ("ticks", "orders", "events", "quarantine")
        entries = [entry for name in names for entry in table(layout, name).snapshot().entries]
        rest = sum(entry.size for entry in entries if entry.values["date"] >= (FIRST + 2 * DAY).isoformat())
        today = FIRST + 5 * DAY
        total = sum(entry.size for entry in entries)
        assert remove_days(layout, keep_days=None, most_bytes=total, today=today) == []
        assert remove_days(layout, keep_days=None, most_bytes=rest, today=today) == [FIRST, FIRST + DAY]
        assert remove_days(layout, keep_days=None, most_bytes=rest - 1, today=today) == [FIRST + 2 * DAY]
        assert tables(layout) == [[3, 4, 5]] * 4

    def test_the_list_in_force_on_the_first_day_left_stays(self, layout: DataLayout) -> None:
        names = schema.INSTRUMENTS.file_schema.names
        row = dict.fromkeys(names) | {"instrument_token": INFY, "symbol": "NSE:INFY"}
        rows = pa.Table.from_pylist([row], schema=schema.INSTRUMENTS.file_schema)
        for day in (-3, 0, 1, 4):
            write_instruments(layout, FIRST + day * DAY, rows)
        days_stream(layout, 6)
        remove_days(layout, keep_days=3, most_bytes=None, today=FIRST + 5 * DAY)
        assert days_of(layout, "ticks") == [2, 3, 4, 5]
        assert days_of(layout, "instruments") == [1, 4]

    def test_a_run_that_died_between_tables_is_completed(
        self, layout: DataLayout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        days_stream(layout, 4)

        class Died(Exception):  # noqa: N818 - it stands for the end of a process
            pass

        def die(table: LakeTable, *args: object, **options: object) -> bool:
            if table.spec is schema.EVENTS:
                raise Died
            return commit_to(table, *args, **options)  # type: ignore[arg-type]

        commit_to = LakeTable.commit
        with monkeypatch.context() as patch:
            patch.setattr(LakeTable, "commit", die)
            with pytest.raises(Died):
                remove_days(layout, keep_days=1, most_bytes=None, today=FIRST + 3 * DAY)
        assert sorted(map(len, tables(layout))) == [2, 2, 4, 4]
        assert remove_days(layout, keep_days=1, most_bytes=None, today=FIRST + 3 * DAY) == [FIRST, FIRST + DAY]
        assert tables(layout) == [[2, 3]] * 4

    def test_one_at_a_time(self, layout: DataLayout, monkeypatch: pytest.MonkeyPatch) -> None:
        days_stream(layout, 1)
        monkeypatch.setattr(lock, "LOCK_SECONDS", 0.1)
        with FileLock(layout.seal_lock, thread_local=False), pytest.raises(DataFolderError, match="another process"):
            remove_days(layout, keep_days=1, most_bytes=None, today=FIRST)
