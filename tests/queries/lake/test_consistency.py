"""The promise: at any moment a query sees exactly what was journalled until then, each row once.

First with every interleaving of journal writes, single commits, retention and queries that hypothesis can think of;
then with a writer in a process of its own that commits and removes while this one journals and queries.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from queries.lake.lake import SqlLake
from queries.lake.result import Result
from queries.lake.state import LakeState
from queries.tail.tail import Tail
from storage.journal import segments
from storage.layout import DataLayout
from storage.tables.log import TableLog, Version
from tests.support.lake import CRUDE, INFY, NIFTY_FUT, Feed, ToyDecoder, ToyWriter
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

STREAM = "20261123T034500-aaaaaa"
EVERYTHING = """
    select 'tick' as kind, stream, seq as n, instrument_token || '@' || last_price as what from ticks
    union all select 'event', stream, null, event from events
    union all select 'order', null, null, order_id from orders
    union all select 'junk', null, null, data::varchar from quarantine
    order by all
"""
TOKENS = st.sampled_from([INFY, NIFTY_FUT, CRUDE])
PACKETS = st.lists(st.tuples(TOKENS, st.integers(1, 10_000_000)), min_size=1, max_size=5)


def rows(result: Result) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in result.arrow().to_pylist()]


Row = tuple[object, ...]


def journalled(feeds: Iterable[Feed]) -> list[Row]:
    """What EVERYTHING must return when all that the feeds were given is flushed."""
    found: list[Row] = []
    for feed in feeds:
        found += [("tick", stream, seq, f"{token}@{price}") for stream, seq, token, price in feed.ticks]
        found += [("event", stream, None, name) for stream, name in feed.events]
        found += [("junk", None, None, data.decode()) for data in feed.bad]
    found += [("order", None, None, name) for name in {name for feed in feeds for name in feed.orders}]
    return sorted(found, key=lambda row: [(value is None, value) for value in row])


class LakeMachine(RuleBasedStateMachine):
    """Streams come and go, segments roll, a writer stops between any two of its commits, and queries come any time."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.feeds: list[Feed] = []
        self.truth: list[Row] = []
        self.committing: Iterator[str] = iter(())
        self.late: list[tuple[Result, list[Row]]] = []
        self.looks: list[tuple[LakeState, list[Row]]] = []

    @initialize()
    def begin(self) -> None:
        DataLayout(self.root).journal.mkdir()
        self.lake = SqlLake(self.root, ToyDecoder())
        self.writer: ToyWriter | None = None
        self.start_stream()

    def start_stream(self) -> None:
        self.feeds.append(Feed(self.root, f"20261123T0{len(self.feeds):05d}-aaaaaa"))

    @property
    def feed(self) -> Feed:
        return self.feeds[-1]

    @rule(packets=PACKETS)
    def tick(self, packets: list[tuple[int, int]]) -> None:
        self.feed.tick(*packets)

    @rule(name=st.sampled_from("abc"))
    def order(self, name: str) -> None:
        self.feed.order(name)

    @rule(name=st.sampled_from("xyz"))
    def event(self, name: str) -> None:
        self.feed.event(name)

    @rule(name=st.sampled_from("pq"))
    def everything_and_roll(self, name: str) -> None:
        for paise in (1, 2):
            self.feed.tick((INFY, paise))
            self.feed.event(name)
            self.feed.order(name)
            self.feed.junk(name.encode())
        self.roll()

    @rule()
    def flush(self) -> None:
        self.feed.flush()
        self.truth = journalled(self.feeds)

    @rule()
    def roll(self) -> None:
        self.feed.roll()
        self.truth = journalled(self.feeds)

    @precondition(lambda self: len(self.feeds) < 5)
    @rule()
    def restart(self) -> None:
        self.feed.writer.close()
        self.truth = journalled(self.feeds)
        self.start_stream()

    @rule()
    def commit_one_table(self) -> None:
        """One step of the writer: the next table of the segment at hand, or of the next complete one."""
        if self.writer is None:
            self.writer = ToyWriter(self.root)
        if next(self.committing, None) is None:
            complete = self.writer.complete()
            if complete:
                self.committing = self.writer.steps(*complete[0])

    @precondition(lambda self: self.writer)
    @rule()
    def kill_the_writer(self) -> None:
        self.committing = iter(())

    @precondition(lambda self: self.writer)
    @rule()
    def remove_what_is_committed(self) -> None:
        assert self.writer
        self.writer.remove_committed()

    @rule()
    def ask_now_and_fetch_later(self) -> None:
        self.late.append((self.lake.sql(EVERYTHING), self.truth))

    @rule()
    def reopen(self) -> None:
        self.fetch_late()
        self.lake.close()
        self.lake = SqlLake(self.root, ToyDecoder())

    @rule()
    def look_now_and_ask_later(self) -> None:
        self.looks.append((self.lake.look(), self.truth))

    @rule(token=TOKENS)
    def ask_earlier_looks(self, token: int) -> None:
        """Parts of an answer, each by a query of its own: a count, one instrument, all."""
        for state, truth in self.looks:
            ticks = [row for row in truth if row[0] == "tick"]
            ours = [row for row in ticks if str(row[3]).startswith(f"{token}@")]
            assert rows(state.sql("select count(*) from ticks")) == [(len(ticks),)]
            found = rows(state.sql("select seq, last_price from ticks where instrument_token = $1", [token]))
            assert sorted((n, f"{token}@{price}") for n, price in found) == sorted((row[2], row[3]) for row in ours)
            assert rows(state.sql(EVERYTHING)) == truth

    def fetch_late(self) -> None:
        for result, expected in self.late:
            assert rows(result) == expected
        self.late.clear()
        self.looks.clear()

    @invariant()
    def sees_what_was_journalled(self) -> None:
        if self.feeds:
            assert rows(self.lake.sql(EVERYTHING)) == self.truth

    def teardown(self) -> None:
        if self.feeds:
            self.fetch_late()
            self.lake.close()
            self.feed.writer.close()
        shutil.rmtree(self.root)


LakeMachine.TestCase.settings = settings(
    max_examples=scaled(4, 12),
    stateful_step_count=scaled(15, 25),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestInterleavings = LakeMachine.TestCase


class Between:
    """Does something between two looks of a query: when it opens a table, or lists the journal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def before_snapshot(self, name: str, action: "Action") -> None:
        original = TableLog.newest

        def look(table: TableLog) -> Version | None:
            if table.spec.name == name:
                action.once()
            return original(table)

        self._monkeypatch.setattr(TableLog, "newest", look)

    def before_tail(self, action: "Action") -> None:
        original = Tail.read

        def look(*args: object, **kwargs: object) -> object:
            action.once()
            return original(*args, **kwargs)  # type: ignore[arg-type]

        self._monkeypatch.setattr(Tail, "read", look)


class Action:
    """Commits everything and removes it from the journal, the first time it is asked to while armed."""

    def __init__(self, writer: ToyWriter) -> None:
        self._writer = writer
        self.armed = False

    def once(self) -> None:
        if self.armed:
            self.armed = False
            self._writer.commit_all()
            self._writer.remove_committed()
            self.after()

    def after(self) -> None:
        """What a test may add."""


def feed_some(feed: Feed, turn: int) -> None:
    feed.tick((INFY, turn + 1), (CRUDE, turn + 2))
    feed.event(f"event {turn}")
    feed.order(f"order {turn // 2}")
    feed.junk(b"junk %d" % turn)
    feed.roll()
    feed.tick((NIFTY_FUT, turn + 3))
    feed.event(f"late {turn}")
    feed.order(f"order {turn // 2}")
    feed.flush()


@pytest.mark.parametrize("moment", ["ticks", "orders", "events", "quarantine", "tail"])
def test_a_writer_that_commits_and_removes_in_the_middle_of_a_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with Feed(tmp_path, STREAM) as feed, SqlLake(tmp_path, ToyDecoder()) as lake:
        action = Action(ToyWriter(tmp_path))
        between = Between(monkeypatch)
        if moment == "tail":
            between.before_tail(action)
        else:
            between.before_snapshot(moment, action)
        for turn in range(scaled(2, 4)):
            feed_some(feed, turn)
            action.armed = True
            assert rows(lake.sql(EVERYTHING)) == journalled([feed])
            assert not action.armed


def test_a_dead_stream_that_is_committed_and_removed_in_the_middle_of_a_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Feed(tmp_path, "20261122T034500-aaaaaa")
    feed_some(dead, 0)
    dead.writer.close()
    with Feed(tmp_path, STREAM) as feed, SqlLake(tmp_path, ToyDecoder()) as lake:
        feed.tick((INFY, 1))  # in the one segment that stays: nothing else tells that something is amiss
        feed.flush()
        action = Action(ToyWriter(tmp_path))
        monkeypatch.setattr(action, "after", lambda: shutil.rmtree(DataLayout(tmp_path).stream(dead.stream)))
        Between(monkeypatch).before_tail(action)
        action.armed = True
        assert rows(lake.sql(EVERYTHING)) == journalled([dead, feed])
        assert not DataLayout(tmp_path).stream(dead.stream).exists()


def test_a_writer_that_stops_between_two_commits(tmp_path: Path) -> None:
    with Feed(tmp_path, STREAM) as feed, SqlLake(tmp_path, ToyDecoder()) as lake:
        writer = ToyWriter(tmp_path)
        feed_some(feed, 0)
        feed_some(feed, 1)
        for stream, segment in writer.complete():
            for _ in writer.steps(stream, segment):
                assert rows(lake.sql(EVERYTHING)) == journalled([feed])
                with SqlLake(tmp_path, ToyDecoder()) as other:
                    assert rows(other.sql(EVERYTHING)) == journalled([feed])
        assert rows(lake.sql(EVERYTHING)) == journalled([feed])


def test_a_hole_in_the_journal_costs_no_more_than_what_was_in_it(tmp_path: Path) -> None:
    with Feed(tmp_path, STREAM) as feed, SqlLake(tmp_path, ToyDecoder()) as lake:
        for paise in (1, 2, 3):
            feed.tick((INFY, paise))
            feed.roll()
        feed.writer.close()  # else what is missing might still come again
        DataLayout(tmp_path).segment(feed.stream, 1).unlink()
        assert rows(lake.sql("select last_price from ticks order by all")) == [(0.01,), (0.03,)]


WRITER = """
import datetime, sys, threading
from pathlib import Path
from storage.layout import DataLayout
from storage.upkeep.retention import remove_committed
from storage.commit.writer import SegmentWriter
from tests.support.scaled import scaled
from tests.support.lake import ToyDecoder
layout = DataLayout(Path(sys.argv[1]))
writer = SegmentWriter(layout, ToyDecoder(), sys.argv[2])
stop = threading.Event()
with writer.hold(stop, 0.01):
    print("ready", flush=True)
    while not stop.is_set():
        writer.advance(stop)
        remove_committed(layout, keep=datetime.timedelta(0), now=datetime.datetime(2096, 10, 2, tzinfo=datetime.UTC))
        if sys.stdin.readline() == "":
            break
        print("turn", flush=True)
"""


def test_a_writer_in_another_process(tmp_path: Path) -> None:
    """Journal, commit, remove and query all at once: every answer is a prefix of what was journalled, without a gap."""
    with Feed(tmp_path, STREAM, segment_bytes=4096) as feed, SqlLake(tmp_path, ToyDecoder()) as lake:
        command = [sys.executable, "-c", WRITER, str(tmp_path), STREAM]
        root = Path(__file__).parents[3]
        with (
            subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
            contextlib.ExitStack() as stack,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            stop = threading.Event()
            driver = threading.Thread(target=_drive, args=(process, stop))
            driver.start()
            stack.callback(driver.join)
            stack.callback(stop.set)
            queries = 0
            oldest: set[int] = set()
            while len(oldest) < scaled(3, 10) or queries < scaled(10, 30):
                for _ in range(20):
                    feed.tick((INFY, 1 + len(feed.ticks)), (CRUDE, 5))
                feed.event(f"turn {queries}")
                feed.flush()
                assert rows(lake.sql(EVERYTHING)) == journalled([feed])
                queries += 1
                oldest.add(segments(DataLayout(tmp_path), STREAM)[0])
                assert process.poll() is None


def _drive(process: "subprocess.Popen[str]", stop: threading.Event) -> None:
    """Ask the writer for one turn after the other."""
    assert process.stdin is not None
    assert process.stdout is not None
    while not stop.is_set():
        process.stdin.write("\n")
        process.stdin.flush()
        if not process.stdout.readline():
            return
    process.stdin.close()
