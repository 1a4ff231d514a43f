"""A feed in all its forms: what was captured, in the order of receipt."""

import asyncio
import datetime as dt
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kitelake
from queries.errors import FeedError
from queries.feed import Bar, FeedTick, Outage, Progress, TickFeed
from storage.clock import IST
from storage.upkeep import compact_day, vacuum_tables
from tests.support.captured import CRUDE, Captured, Packet, moment
from tests.support.feeding import DAYS, NOON, Fed, expected, given, moment_at, three_days
from tests.support.forking import ANSWERED, in_fork
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow  # tables are made for each test


def shown(captured: Captured) -> list[Packet]:
    """The record, in order, without the account that brought the same as another."""
    one = [each for each in captured.packets if each.source[1] != "ravi"]
    return sorted(one, key=lambda each: (each.received_us, each.source[0]))  # a stream's come in their order


def test_all_that_was_captured_in_the_order_of_receipt(fed: Fed) -> None:
    """Three days, sealed, committed and live; a dropped connection, restarts, ties of two streams, two accounts."""
    captured, lake = fed
    rows = given(lake.feed(columns=["received_at", "stream", "seq", "instrument_token", "last_price"]).batches())
    found = [(row["received_at"], row["stream"], row["instrument_token"], row["last_price"]) for row in rows]
    record = [
        (moment(each.received_us), each.source[0], each.values["instrument_token"], each.values["last_price"])
        for each in shown(captured)
    ]
    assert found == record
    keys = [(row["received_at"], row["stream"], row["seq"]) for row in rows]
    assert keys == sorted(set(keys))
    assert len({time for time, _, _ in keys}) < len(keys)


def test_slices_are_what_was_received_in_each_interval(fed: Fed) -> None:
    _, lake = fed
    slices = list(lake.feed(columns=["received_at"]).slices(dt.timedelta(seconds=2)))
    ends = [end for end, _ in slices]
    assert ends == sorted(set(ends))
    assert {(end.second % 2, end.microsecond) for end in ends} == {(0, 0)}
    rows = [(end, row["received_at"]) for end, batch in slices for row in batch.to_pylist()]
    assert [at for _, at in rows] == [row["received_at"] for row in expected(lake, ["received_at"])]
    assert all(dt.timedelta() < end - at <= dt.timedelta(seconds=2) for end, at in rows)
    assert sum(len(batch) for _, batch in lake.feed().slices(86_400)) == len(rows)
    assert [end.time() for end, _ in lake.feed().slices(86_400)] == [dt.time()] * 3


def test_a_slice_ends_at_midnight(tmp_path: Path) -> None:
    """Whatever its width; the next one begins there."""
    with Captured(tmp_path, DAYS[1]) as captured:
        line = captured.run("08:55").line()
        line.ltp("20:00", CRUDE, 5000)
        captured.on(DAYS[2])
        line.ltp("09:00", CRUDE, 5001)
    with kitelake.open(tmp_path) as lake:
        found = [(end, len(batch)) for end, batch in lake.feed().slices(np.float64(70_000))]
        assert found == [(moment_at(DAYS[2], "00:00"), 1), (moment_at(DAYS[2], "19:26:40"), 1)]


def test_each_form_goes_on_where_another_stopped(fed: Fed) -> None:
    """Also one that was begun before, and a feed made at the position."""
    _, lake = fed
    rows = [row["seq"] for row in expected(lake, ["seq", "received_at", "stream"])]
    feed = lake.feed(columns="all")
    ticks, batches, slices, dicts = iter(feed), feed.batches(3), feed.slices(5), feed.dicts()
    found: list[int] = []

    def seq_behind() -> None:
        position = feed.position
        assert position is not None
        rest = lake.feed(columns="all", position=position)
        assert next(iter(rest.batches(1)))["seq"][0].as_py() == rows[len(found)]

    for _ in range(3):
        found.append(next(ticks).seq)  # type: ignore[union-attr]
        seq_behind()
        found += next(batches)["seq"].to_pylist()
        seq_behind()
        found += next(slices)[1]["seq"].to_pylist()
        seq_behind()
        before = len(found)
        assert next(dicts)["last_price"]
        found.append(rows[before])
        seq_behind()
    assert found == rows[: len(found)]
    assert found + [tick.seq for tick in feed if isinstance(tick, FeedTick)] == rows
    assert list(ticks) == list(feed.batches()) == []


def test_seek_goes_forward(fed: Fed) -> None:
    _, lake = fed
    feed = lake.feed()
    feed.seek("2026-11-19 09:27:10")
    ticks = iter(feed)
    assert next(ticks).received_at >= dt.datetime(2026, 11, 19, 9, 27, 10, tzinfo=IST)  # type: ignore[union-attr]
    feed.seek(NOON)
    assert next(ticks).received_at.date() == DAYS[2]  # type: ignore[union-attr]
    with pytest.raises(FeedError, match=r"seek: got 2026-11-23 12:00:00.*, expected no time before 2026-11-24 09:16"):
        feed.seek(NOON)


def test_a_digest_is_of_the_rows_alone(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lake = fed
    whole = lake.feed(columns="all").digest()
    monkeypatch.setattr("queries.feed.feed.BATCH_ROWS", 7)
    monkeypatch.setattr("queries.feed.sweep.BLOCK_ROWS", 50)
    assert lake.feed(columns="all").digest() == whole
    assert lake.feed(columns="all", stop="2026-11-24 09:18").digest() != whole
    assert lake.feed().digest() != whole
    feed = lake.feed(columns="all")
    next(iter(feed))
    assert feed.digest() != whole


def test_instruments_are_those_of_the_day(fed: Fed) -> None:
    _, lake = fed
    feed = lake.feed(["NFO:NIFTY26NOVFUT", "NSE:INFY"])
    assert _lots(feed) == {"NFO:NIFTY26NOVFUT": 75, "NSE:INFY": 1}
    feed.seek(DAYS[1])
    next(iter(feed))
    assert _lots(feed) == {"NFO:NIFTY26NOVFUT": 65, "NSE:INFY": 1}
    assert _lots(feed, DAYS[0])["NFO:NIFTY26NOVFUT"] == 75
    assert _lots(feed, DAYS[2])["NFO:NIFTY26NOVFUT"] == 65  # the newest list until then
    assert len(lake.feed().instruments()) == 7
    with pytest.raises(FeedError, match="no instrument list of 2026-11-01 or before"):
        feed.instruments("2026-11-01")
    with pytest.raises(FeedError, match="instruments: got no day, expected one: the feed has no day with ticks"):
        lake.feed(start="2026-11-01").instruments()


def _lots(feed: TickFeed, day: dt.date | None = None) -> dict[str, int]:
    rows = feed.instruments(day)
    return dict(zip(rows["symbol"].to_pylist(), rows["lot_size"].to_pylist(), strict=True))


def test_progress(fed: Fed) -> None:
    _, lake = fed
    told: list[Progress] = []
    rows = len(given(lake.feed(progress=told.append).batches()))
    assert [(each.day, each.number, each.days) for each in told] == [(day, n, 3) for n, day in enumerate(DAYS, 1)]
    assert told[-1].ticks == rows


def test_async_iteration_is_the_same(fed: Fed) -> None:
    _, lake = fed

    async def read() -> Sequence[FeedTick | Bar | Outage]:
        return [item async for item in lake.feed(bars="5m")]

    found, plain = asyncio.run(read()), list(lake.feed(bars="5m"))
    assert list(map(repr, found)) == list(map(repr, plain))


def test_it_ends_when_it_is_closed(fed: Fed) -> None:
    _, lake = fed
    for form in ("__iter__", "dicts"):
        with lake.feed() as feed:
            for number, _ in enumerate(getattr(feed, form)()):
                if number == 10:
                    feed.close()
            assert number == 10
            assert list(feed) == []
    feed = lake.feed()
    found = 0
    for batch in feed.batches(5):
        found += len(batch)
        feed.close()
    assert found == 5


def test_what_is_sought_is_where_the_feed_is(fed: Fed) -> None:
    """Also before anything was read, and where there is nothing."""
    _, lake = fed
    feed = lake.feed(bars="1m")
    feed.seek("2026-11-19 09:17")
    assert list(map(repr, lake.feed(bars="1m", position=feed.position))) == list(map(repr, feed))
    feed.seek("2027-01-01")
    assert list(feed) == []
    with pytest.raises(FeedError, match=r"seek: got 2026-11-23 12:00:00.*, expected no time before 2027-01-01"):
        feed.seek(NOON)


@pytest.mark.slow
def test_what_was_read_for_a_task_that_was_cancelled_comes_next(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the thread that reads it is at it still."""
    _, lake = fed
    feed = lake.feed(ticks=False, bars="5m", on_gap="mark")
    whole = list(lake.feed(ticks=False, bars="5m", on_gap="mark"))
    begun, go_on = threading.Event(), threading.Event()
    after = feed._source.after

    def slow(*place: Any) -> Any:
        for item in after(*place):
            begun.set()
            assert go_on.wait(PATIENCE_SECONDS)
            yield item

    monkeypatch.setattr(feed._source, "after", slow)

    async def read() -> list[FeedTick | Bar | Outage]:
        async def first() -> object:
            return await anext(aiter(feed))

        waiting = asyncio.create_task(first())
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        waiting.cancel()
        await asyncio.wait([waiting])
        again = asyncio.create_task(first())
        await asyncio.sleep(0)
        go_on.set()
        return [await again, *[item async for item in feed]]  # type: ignore[list-item]

    assert asyncio.run(read()) == whole


def test_after_an_error_it_does_not_seem_to_be_at_its_end(fed: Fed) -> None:
    captured, _ = fed
    with kitelake.open(captured.root) as lake:
        feed = lake.feed()
        next(iter(feed))
    for _ in range(2):
        with pytest.raises(kitelake.QueryError, match="closed"):
            list(feed)


def test_a_position_may_be_kept_as_text(fed: Fed) -> None:
    _, lake = fed
    feed = lake.feed(columns=np.array(["seq"]))  # type: ignore[arg-type]
    list(zip(range(30), feed, strict=False))
    kept = json.loads(json.dumps(feed.position, default=str))
    assert given(lake.feed(columns=["seq"], position=kept).batches()) == given(feed.batches())


@pytest.mark.slow
def test_files_may_be_vacuumed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of later days are found anew; of the day where it is, when it is read on."""
    captured = three_days(tmp_path)
    monkeypatch.setattr("queries.feed.sweep.STEP_ROWS", 1)
    with kitelake.open(tmp_path) as lake:
        rows = given(lake.feed(columns=["stream", "seq"]).batches())
        feed = lake.feed(columns=["stream", "seq"])
        found = given([next(feed.batches())])
        futures = tmp_path / "ticks" / f"date={DAYS[0]}" / "exchange=NFO"
        away = futures.rename(tmp_path / "away")
        with pytest.raises(FeedError, match="it was vacuumed since the feed came to this day; read on"):
            next(feed.batches())
        away.rename(futures)
        found += given([next(feed.batches())])
        compact_day(captured.layout, DAYS[1])
        later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)
        assert vacuum_tables(captured.layout, grace=dt.timedelta(), now=later)
        assert found + given(feed.batches()) == rows


def test_a_fork_has_to_open_a_lake_of_its_own(fed: Fed) -> None:
    _, lake = fed
    begun, other = lake.feed(), lake.feed()
    ticks, slices = iter(begun), other.slices(1)
    first, _ = next(ticks), next(slices)
    found = in_fork(
        {
            "ticks": lambda: list(ticks),
            "slices": lambda: list(slices),
            "a new one": lambda: next(lake.feed().batches()),
            "instruments": begun.instruments,
            "seek": lambda: begun.seek(NOON),
        }
    )
    assert ANSWERED not in found.values()
    assert in_fork({"close": begun.close}) == {"close": ANSWERED}
    assert next(ticks) != first
