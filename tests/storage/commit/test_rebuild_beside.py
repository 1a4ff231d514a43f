"""A rebuild beside a writer, and one that dies: each table has its old rows or its new ones."""

import random
import shutil
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from storage.commit.rebuild import rebuild_day
from storage.commit.writer import SegmentWriter
from storage.errors import DataFolderError
from storage.layout import DataLayout
from storage.tables import lock
from storage.upkeep.compact import compact_day
from tests.support import works
from tests.support.lake import Feed, ToyDecoder, ToyWriter
from tests.support.lives import Life
from tests.support.rebuilding import DAY, NAMES, OLD, Rows, archive, cheaper, commit, fill, rows_of, table, two_streams
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.works import Changed, one_rupee_more

pytestmark = pytest.mark.slow

__all__ = ["two_streams"]  # the fixture


@pytest.fixture
def layout(tmp_path: Path) -> DataLayout:
    return DataLayout(tmp_path / "données, 100 % & more")


def test_one_at_a_time(layout: DataLayout, two_streams: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(two_streams, layout.root)
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.1)
    with (
        FileLock(layout.seal_lock, thread_local=False),
        pytest.raises(DataFolderError, match="another process swaps files"),
    ):
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

    def test_beside_a_writer_that_commits_all_the_time(self, layout: DataLayout) -> None:
        feed = Feed(layout.root, OLD)
        committed = threading.Event()
        writer = SegmentWriter(layout, ToyDecoder(), OLD, on_commit=lambda _done: committed.set())
        thread = threading.Thread(target=writer.run, kwargs={"poll_seconds": 0.01, "stop": threading.Event()})
        thread.start()
        fill(feed, 2)
        assert committed.wait(PATIENCE_SECONDS)
        for i in range(2, 18, 4):
            fill(feed, 4, offset=i)
            rebuild_day(layout, ToyDecoder(), DAY)
        feed.writer.close()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        rows = rows_of(layout)
        assert [(row["seq"], row["last_price"]) for row in rows["ticks"]] == [row[1::2] for row in feed.ticks]
        assert [row["event"] for row in rows["events"]] == [name for _, name in feed.events]
        assert [row["order_id"] for row in rows["orders"]] == sorted(set(feed.orders), key=feed.orders.index)
        assert [row["data"] for row in rows["quarantine"]] == feed.bad


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
