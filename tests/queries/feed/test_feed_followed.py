"""A feed that follows a capture: every tick once, from history over into what comes now."""

import asyncio
import contextlib
import datetime as dt
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import kitelake
from queries.feed import Bar, FeedTick, Outage, Position, TickFeed
from storage.clock import IST
from tests.support.captured import INFY, NIFTY_FUT, SECOND_US, Captured, Line, us_of
from tests.support.feeding import given, moment_at
from tests.support.schedule import clock_at
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

NAMES = ["received_at", "stream", "seq", "instrument_token", "last_price", "cached"]
STEPS = 12
Item = FeedTick | Bar | Outage


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[Captured]:
    """A capture that is under way: some ticks are committed, some in the journal. It is a morning of trading."""
    with clock_at("2026-11-24T11:00"), Captured(tmp_path, "2026-11-24") as captured:
        captured.instruments()
        line = captured.run(now_us() - 90 * SECOND_US).line()
        line.begin(now_us() - 80 * SECOND_US, INFY, NIFTY_FUT)
        tick(line, now_us() - 70 * SECOND_US, 1)
        captured.commit()
        tick(line, now_us() - 69 * SECOND_US, 2)
        captured.flush()
        yield captured


def tick(line: Line, at_us: int, number: int) -> None:
    for token in (INFY, NIFTY_FUT):
        line.full(at_us, token, 1000 + number, volume=number)


def write_on(captured: Captured) -> None:
    """More ticks; some commits among them, and a restart."""
    line = captured.runs[-1].line()
    for number in range(3, 3 + STEPS):
        if number == 9:
            line = captured.run(now_us()).line()
            line.begin(now_us(), INFY, NIFTY_FUT)
        tick(line, now_us(), number)
        captured.flush()
        if number % 4 == 0:
            captured.commit()
        time.sleep(0.02)


def followed(captured: Captured, feed: TickFeed, count: int, read: Callable[[TickFeed, int], Sequence[Item]]) -> None:
    """While another thread writes on, what is read is what a feed of the past gives afterwards."""
    writer = threading.Thread(target=write_on, args=[captured])
    guard = threading.Timer(PATIENCE_SECONDS, feed.close)
    guard.start()
    writer.start()
    try:
        found = [_values(item) for item in read(feed, count)]
    finally:
        writer.join()
        guard.cancel()
    with kitelake.open(captured.root) as lake:
        rows = [tuple(row.values()) for row in given(lake.feed(columns=NAMES).batches())]
    assert found == rows[-count:]


def _values(item: Item) -> tuple[object, ...]:
    assert isinstance(item, FeedTick)
    return tuple(getattr(item, name) for name in NAMES)


def read_plainly(feed: TickFeed, count: int) -> list[Item]:
    """Until so many came; then it is closed."""
    found = []
    for item in feed:
        found.append(item)
        if len(found) == count:
            feed.close()
    return found


def read_in_a_loop(feed: TickFeed, count: int) -> list[Item]:
    """The same, while the loop does something else."""

    async def read() -> list[Item]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        other = asyncio.create_task(turn())
        found = []
        async for item in feed:
            found.append(item)
            if len(found) == count:
                feed.close()
        other.cancel()
        assert turns
        return found

    return asyncio.run(read())


@pytest.mark.parametrize("read", [read_plainly, read_in_a_loop])
def test_every_tick_once(captured: Captured, read: Callable[[TickFeed, int], Sequence[Item]]) -> None:
    with kitelake.open(captured.root) as lake:
        followed(captured, lake.feed(columns=NAMES, follow=True), 2 * (STEPS + 2), read)


def test_from_a_position_on(captured: Captured) -> None:
    """That of the last tick there is, which is committed anew while it is followed."""
    with kitelake.open(captured.root) as lake:
        before = lake.feed(["NSE:INFY", "NFO:NIFTY26NOVFUT"], columns=NAMES)
        assert len(list(before)) == 4
        assert before.position is not None
        feed = lake.feed(columns=NAMES, follow=True, position=Position(*before.position))
        followed(captured, feed, 2 * STEPS, read_plainly)


def test_a_close_ends_it_while_it_waits(captured: Captured) -> None:
    with kitelake.open(captured.root) as lake:
        feed = lake.feed(columns=NAMES, follow=True)
        items = iter(feed)
        assert len([next(items) for _ in range(4)]) == 4
        threading.Timer(0.3, feed.close).start()
        assert list(items) == list(feed) == []


def test_bars_and_slices_are_given_when_they_are_over(captured: Captured) -> None:
    """Not when the next tick comes, perhaps never. And once."""
    with kitelake.open(captured.root) as lake:
        whole = list(lake.feed(columns=NAMES, bars="1s"))
        feed = lake.feed(columns=NAMES, bars="1s", follow=True)
        items = iter(feed)
        past = [next(items) for _ in whole]
        assert list(map(repr, past)) == list(map(repr, whole))
        line = captured.runs[-1].line()
        at_us = now_us()
        tick(line, at_us, 20)
        captured.flush()
        guard = threading.Timer(PATIENCE_SECONDS, feed.close)
        guard.start()
        sliced = lake.feed(columns=NAMES, follow=True)
        sliced.seek(dt.datetime.fromtimestamp(at_us / SECOND_US, IST))
        end, batch = next(sliced.slices(0.5))
        assert (len(batch), batch["last_price"].to_pylist()) == (2, [1020, 1020])
        assert 0 < end.timestamp() * SECOND_US - at_us <= SECOND_US / 2
        found = [next(items) for _ in range(4)]
        assert [item.symbol for item in found if isinstance(item, Bar)] == ["NFO:NIFTY26NOVFUT", "NSE:INFY"]
        assert {item.time.timestamp() for item in found if isinstance(item, Bar)} == {at_us // SECOND_US + 1}
        again = [item for item in lake.feed(columns=NAMES, bars="1s") if isinstance(item, Bar)]
        assert again[-2:] == [item for item in found if isinstance(item, Bar)]
        guard.cancel()
        feed.close()


def test_over_midnight(tmp_path: Path) -> None:
    """The last bars of the day before, and what comes late of its ticks, are given on the next."""
    with clock_at("2026-11-24T23:59:05") as clock, Captured(tmp_path, "2026-11-24") as captured:
        captured.simulated()
        captured.instruments()
        midnight = dt.datetime(2026, 11, 25, tzinfo=IST)
        midnight_us = int(midnight.timestamp()) * SECOND_US
        late, line = (captured.run(midnight_us - 60 * SECOND_US).line("asha", number) for number in (1, 2))
        for each, token in ((late, INFY), (line, NIFTY_FUT)):
            each.begin(midnight_us - 59 * SECOND_US, token)
            for number in (1, 2):
                each.full(midnight_us - (58 - number) * SECOND_US, token, 1000, volume=number)
        captured.flush()
        with kitelake.open(captured.root) as lake:
            feed = lake.feed(columns=NAMES, bars="1m", follow=True)
            guard = threading.Timer(PATIENCE_SECONDS, feed.close)
            guard.start()
            items = iter(feed)
            assert [type(next(items)) for _ in range(4)] == 4 * [FeedTick]
            line.full(midnight_us + 1, NIFTY_FUT, 1001, volume=3)
            captured.flush()
            assert [item.last_price for item in (next(items),) if isinstance(item, FeedTick)] == [1001]
            clock.pass_until(midnight + dt.timedelta(seconds=2))
            bars = [next(items) for _ in range(2)]
            assert {item.time.timestamp() * SECOND_US for item in bars if isinstance(item, Bar)} == {midnight_us}
            late.full(midnight_us - 1, INFY, 1002, volume=3)
            captured.flush()
            assert [item.last_price for item in (next(items),) if isinstance(item, FeedTick)] == [1002]
            guard.cancel()
            feed.close()


def test_a_bar_that_was_not_given_yet_comes_after_a_resumption(tmp_path: Path) -> None:
    """Bars come a second after they have closed, and each once, wherever between them and the ticks a feed is left."""
    with clock_at("2026-11-24T10:00:05") as clock, Captured(tmp_path, "2026-11-24") as captured:
        captured.simulated()
        captured.instruments()
        line = captured.run("09:59:30").line()
        line.begin("09:59:40", INFY, NIFTY_FUT)
        for second in (1, 2):
            tick(line, us_of(captured.day, f"10:00:0{second}"), second)
        captured.flush()
        with kitelake.open(tmp_path) as lake, contextlib.ExitStack() as open_feeds:

            def followed_from(position: object) -> tuple[TickFeed, Iterator[Item]]:
                kept = json.loads(json.dumps(position, default=str))
                feed = lake.feed(columns=NAMES, bars="1m", follow=True, position=kept)
                guard = threading.Timer(PATIENCE_SECONDS, feed.close)
                guard.start()
                open_feeds.callback(guard.cancel)
                open_feeds.callback(feed.close)
                return feed, iter(feed)

            feed, items = followed_from(None)
            assert [type(next(items)) for _ in range(4)] == 4 * [FeedTick]
            clock.pass_until(moment_at(captured.day, "10:01:00.500000"))
            tick(line, us_of(captured.day, "10:01:00.25"), 3)
            captured.flush()
            assert [type(next(items)) for _ in range(2)] == [FeedTick, FeedTick]
            left = feed.position
            clock.pass_until(moment_at(captured.day, "10:01:02"))
            bars = [next(items) for _ in range(2)]
            assert [type(bar) for bar in bars] == [Bar, Bar]
            tick(line, us_of(captured.day, "10:01:02.5"), 4)
            captured.flush()
            after = [next(items) for _ in range(2)]
            assert [type(item) for item in after] == [FeedTick, FeedTick]
            again, items = followed_from(left)
            assert [next(items)] == bars[:1]
            again, items = followed_from(again.position)
            assert [next(items)] == bars[1:]
            assert list(map(repr, (next(items), next(items)))) == list(map(repr, after))
            _, items = followed_from(feed.position)
            tick(line, us_of(captured.day, "10:01:03"), 5)
            captured.flush()
            found = next(items)
            assert isinstance(found, FeedTick)
            assert found.last_price == 1005


@pytest.mark.parametrize("is_committed", [True, False])
def test_what_came_late_is_given_to_who_goes_on(captured: Captured, is_committed: bool) -> None:
    """Of a stream that was not there yet, and of one that was; each tick once, and those of before come first."""
    symbols = ["NSE:INFY", "NFO:NIFTY26NOVFUT"]
    other = captured.run(now_us() - 60 * SECOND_US).line("ravi")
    tick(other, now_us() - 50 * SECOND_US, 3)
    captured.flush()
    with kitelake.open(captured.root) as lake:
        kept = []
        for some in (None, symbols):
            feed = lake.feed(some, columns=NAMES)
            assert len(list(feed)) == 6
            kept.append((some, json.loads(json.dumps(feed.position, default=str))))
        third = captured.run(now_us() - 60 * SECOND_US).line("uma")
        for number, line in ((5, captured.runs[0].line()), (4, third)):
            tick(line, now_us() - (60 - number) * SECOND_US, number)
        captured.flush()
        if is_committed:
            captured.commit()
        for (some, position), follow in itertools.product(kept, (True, False)):
            with lake.feed(some, columns=NAMES, position=position, follow=follow) as late:
                items = iter(late)
                found = [next(items) for _ in range(4)]
                assert [item.last_price for item in found if isinstance(item, FeedTick)] == [1004, 1004, 1005, 1005]
                again = json.loads(json.dumps(late.position, default=str))
            assert list(lake.feed(some, columns=NAMES, position=again)) == []
            assert list(lake.feed(some, columns=NAMES, position=position[:3])) == []  # of which it is not known


def test_what_came_late_of_the_day_before(captured: Captured) -> None:
    """Also of before the position, and not if that does not say what was given; nor behind a seek."""
    with kitelake.open(captured.root) as lake:
        feed = lake.feed(columns=NAMES)
        assert len(list(feed)) == 4
        kept = feed.position
        assert kept is not None
        line = captured.on("2026-11-23").run("09:00").line("uma")
        tick(line, us_of(captured.day, "09:15:01"), 7)
        captured.flush()
        found = [item.last_price for item in lake.feed(position=kept) if isinstance(item, FeedTick)]
        assert found == [1007, 1007]
        assert list(lake.feed(position=kept._replace(streams=None))) == []
        sought = lake.feed(position=kept)
        sought.seek(kept.received_at)
        assert list(sought) == []
        assert sought.position is not None
        assert sought.position.streams is None
