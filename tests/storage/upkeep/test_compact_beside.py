"""Sealing beside a capture and readers, and sealing that is killed."""

import datetime
import random
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from queries.lake.lake import SqlLake
from storage.commit.rebuild import rebuild_day
from storage.commit.writer import SegmentWriter
from storage.layout import DataLayout
from storage.upkeep.compact import compact_day
from storage.upkeep.vacuum import vacuum_tables
from storage.verify.folder import verify
from tests.support import works
from tests.support.compacting import (
    DAY,
    SMALL,
    STEPS,
    STREAM,
    Capture,
    check,
    kill_compact,
    minutes_of_ticks,
    names,
    put,
    stored,
    tick,
)
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder
from tests.support.lives import Life
from tests.support.scaled import scaled
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


class Beside:
    """A capture and its writer, a segment at a time."""

    def __init__(self, layout: DataLayout) -> None:
        self.feed = Feed(layout.root, STREAM)
        self._writer = SegmentWriter(layout, ToyDecoder(), STREAM)
        self._held = self._writer.hold(threading.Event(), 1)

    def __enter__(self) -> Self:
        self._held.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.feed.writer.close()
        self._writer.advance(threading.Event())
        self._held.__exit__(*error)

    def segment(self) -> None:
        """Journal and commit one more."""
        self.feed.tick((INFY, 1 + len(self.feed.ticks)), (CRUDE, 1))
        self.feed.event(f"event {len(self.feed.events)}")
        self.feed.roll()
        self._writer.advance(threading.Event())


class TestBesideAWriter:
    def test_what_is_committed_at_any_step_stays_beside(self, layout: DataLayout) -> None:
        with Beside(layout) as beside:
            for _ in range(3):
                beside.segment()
            sealed = compact_day(layout, DAY, memory_bytes=SMALL, after_step=lambda _: beside.segment())
            assert [each.table for each in sealed] == ["ticks", "ticks", "events"]
            check(layout, beside.feed)
            compact_day(layout, DAY, memory_bytes=SMALL)
            check(layout, beside.feed)
            assert len(names(layout)) == 2
            beside.segment()
            assert len(names(layout)) == 4
        check(layout, beside.feed)

    def test_the_day_after_and_the_live_tail_are_not_touched(self, layout: DataLayout) -> None:
        with Beside(layout) as beside:
            beside.segment()
            beside.segment()
            beside.feed.now_ns += DAY_NS
            beside.segment()
            beside.feed.tick((NIFTY_FUT, 1))
            beside.feed.flush()
            compact_day(layout, DAY, memory_bytes=SMALL)
            assert [name.startswith("sealed-") for name in names(layout)] == [False, False, True, True]
            with SqlLake(layout.root, ToyDecoder()) as lake:
                assert lake.sql("select count(*) as n from ticks").arrow().to_pylist() == [{"n": 7}]

    def test_a_capture_and_readers_that_go_on(self, layout: DataLayout) -> None:
        with Capture(layout, segments=scaled(6, 30), pause_seconds=0.2) as capture:
            while not compact_day(layout, DAY, memory_bytes=SMALL) and not capture.errors:
                time.sleep(0.1)
            for _ in range(2):
                compact_day(layout, DAY, memory_bytes=SMALL)
                assert not Life(works.compact, layout.root).wait()
            wait_until(lambda: capture.looks > 5 or capture.errors)
        check(layout, capture.feed)


def test_a_compacted_day_is_sound_and_can_be_rebuilt_and_compacted_again(layout: DataLayout) -> None:
    with Feed(layout.root, STREAM) as feed:
        for number in range(4):
            feed.tick((INFY, number + 1), (CRUDE, number + 1))
            feed.event(f"event {number}")
            feed.order(f"order {number}")
            feed.junk(b"junk %d" % number)
            feed.roll()
    SegmentWriter(layout, ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    for again in range(2):
        assert len(compact_day(layout, DAY, memory_bytes=SMALL)) == 5
        assert len(names(layout)) == 2
        assert verify(layout, ToyDecoder(), date=DAY).findings == []
        check(layout, feed)
        if not again:
            rebuild_day(layout, ToyDecoder(), DAY)
            assert len(names(layout)) > 2
    assert vacuum_tables(layout, now=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)) > 0
    check(layout, feed)


class TestKilled:
    def test_at_each_step_and_at_random_moments(self, layout: DataLayout) -> None:
        minutes_of_ticks(layout, files=20)
        before = stored(layout)
        for step in STEPS[:-1]:
            assert Life(works.compact, layout.root, step).wait()
            assert stored(layout).equals(before)
            assert len(names(layout)) == 20
        chance = random.Random(3)
        died = [kill_compact(layout, chance.uniform(0, 0.3)) for _ in range(3)] + [kill_compact(layout, 0)]
        assert any(died)
        assert stored(layout).equals(before)
        put(layout, "late", [tick(5000)])  # where one was done before it was killed, there is something left to do
        assert Life(works.compact, layout.root, STEPS[-1]).wait()
        put(layout, "later", [tick(5001)])
        assert len(compact_day(layout, DAY, memory_bytes=SMALL)) == 1
        assert len(names(layout)) == 1
        assert stored(layout).slice(0, 1200).equals(before)
        assert stored(layout).num_rows == 1202
