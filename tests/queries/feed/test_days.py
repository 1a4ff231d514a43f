"""Bars as they close and outages, in their places between ticks; candles before the first of them."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pytest

import kitelake
from queries.errors import FeedError, OutageError
from queries.feed import Bar, FeedTick, Outage
from storage.clock import IST
from tests.support.captured import CRUDE, INFY, LISTED, NIFTY_50, NIFTY_FUT, TINY, Captured
from tests.support.feeding import DAYS, expected, given, moment_at

pytestmark = pytest.mark.slow

Fed = tuple[Captured, kitelake.Lake]
UNLISTED = 999_937


def moment_of(item: FeedTick | Bar | Outage) -> dt.datetime:
    """When it could be known."""
    return item.time if isinstance(item, Bar) else item.stop if isinstance(item, Outage) else item.received_at


@pytest.mark.parametrize(("symbols", "days"), [(None, DAYS), (["NSE:INFY", "NFO:NIFTY26NOVFUT"], DAYS[:1])])
def test_bars_are_those_of_the_lake(fed: Fed, symbols: list[str] | None, days: Sequence[dt.date]) -> None:
    _, lake = fed
    stop = days[-1] + dt.timedelta(days=1)
    table = lake.bars(symbols or "*:*", "1m", days[0], stop, clock="received", label="close").arrow()
    rows = [row for row in table.to_pylist() if row["ticks"]]
    bars = [item for item in lake.feed(symbols, stop=stop, bars="1m", ticks=False) if isinstance(item, Bar)]
    key = lambda row: (row["time"], row["symbol"])  # noqa: E731
    assert [{name: getattr(bar, name) for name in table.column_names} for bar in bars] == sorted(rows, key=key)
    assert {bar.time.date() for bar in bars} == {*days}


def test_nothing_is_of_the_future(fed: Fed) -> None:
    """A bar is of what came before it and is not earlier than its end; nothing that comes after it is in it."""
    _, lake = fed
    items = list(lake.feed(bars="1m", on_gap="mark"))
    moments = list(map(moment_of, items))
    assert moments == sorted(moments)
    ticks = [item for item in items if isinstance(item, FeedTick)]
    assert len(ticks) == len(expected(lake, ["seq", "received_at", "stream"]))
    seen: dict[str | None, FeedTick] = {}
    for item in items:
        if isinstance(item, FeedTick):
            seen[item.symbol] = item
        elif isinstance(item, Bar):
            assert item.close == seen[item.symbol].last_price
            assert item.time - dt.timedelta(minutes=1) <= seen[item.symbol].received_at < item.time
    first = next(place for place, item in enumerate(items) if isinstance(item, Bar))
    assert isinstance(items[first - 1], FeedTick)
    assert moments[first] == moment_at(DAYS[0], "09:16")


def test_cut_short_a_feed_is_the_beginning_of_a_longer_one(fed: Fed) -> None:
    _, lake = fed
    whole = list(map(repr, lake.feed(None, DAYS[1], bars="1m", on_gap="mark")))
    for stop in ("2026-11-23 09:16", "2026-11-23 09:16:30"):
        cut = list(map(repr, lake.feed(None, DAYS[1], bars="1m", on_gap="mark", stop=stop)))
        kept = cut[: -sum(f"time={_shown(stop)}" in text for text in cut) or None]  # bars that close at its very end
        assert kept == whole[: len(kept)]


def _shown(moment: str) -> str:
    return repr(dt.datetime.fromisoformat(moment).replace(tzinfo=IST))


def test_a_feed_goes_on_between_bars_of_a_moment(fed: Fed) -> None:
    _, lake = fed
    wanted = {"bars": "1m", "on_gap": "mark", "start": DAYS[1], "stop": "2026-11-24 09:17"}
    whole = list(map(repr, lake.feed(**wanted)))  # type: ignore[arg-type]
    first = lake.feed(**wanted)  # type: ignore[arg-type]
    places = [place for place, text in enumerate(whole) if not text.startswith("FeedTick")][:4]
    for place, item in enumerate(first):
        assert repr(item) == whole[place]
        if place in places:
            rest = lake.feed(**wanted, position=first.position)  # type: ignore[arg-type]
            assert list(map(repr, rest)) == whole[place + 1 :]


def test_outages_come_where_they_end(fed: Fed) -> None:
    _, lake = fed
    found = [item for item in lake.feed(on_gap="mark") if isinstance(item, Outage)]
    lost = [(each.start, each.stop) for each in found if {INFY, NIFTY_FUT} & {*each.tokens}]
    assert lost[:3] == [  # of shares and of futures, which trade for longer
        (moment_at(DAYS[0], "09:20:01"), moment_at(DAYS[0], "09:26:59.990000")),
        (moment_at(DAYS[0], "09:40"), moment_at(DAYS[0], "15:30")),
        (moment_at(DAYS[0], "09:40"), moment_at(DAYS[0], "15:40")),
    ]
    assert [item for item in lake.feed("NSE:TINY", DAYS[0], on_gap="mark") if isinstance(item, Outage)] == [
        Outage(each.start, each.stop, tuple(token for token in each.tokens if token == 225537))
        for each in found
        if each.start.date() == DAYS[0] and 225537 in each.tokens
    ]
    assert not [item for item in lake.feed() if isinstance(item, Outage)]


def test_an_outage_is_of_what_was_asked_for_by_then(tmp_path: Path) -> None:
    """Not of what is asked for later, nor ended by a connection that is asked for it later."""
    with Captured(tmp_path, DAYS[0]) as captured:
        captured.instruments()
        run = captured.run("08:55")
        one, two = run.line(), run.line("ravi")
        one.begin("09:14", INFY)
        two.begin("09:14", TINY)
        one.full("09:15:01", INFY, 100, volume=1)
        one.closed("10:00")
        one.begin("10:05", INFY)
        one.subscribed("12:00", CRUDE)
        two.subscribed("13:00", INFY)
        one.closed("14:00")
        one.begin("14:05", INFY, CRUDE)
        run.stopped("15:40")
        captured.commit()
    with kitelake.open(tmp_path) as lake:
        items = list(lake.feed(ticks=False, on_gap="mark", stop=moment_at(DAYS[0], "15:00")))
    found = [item for item in items if isinstance(item, Outage)]
    assert [(f"{each.start:%H:%M}", f"{each.stop:%H:%M}", each.tokens) for each in found] == [
        ("10:00", "10:04", (INFY,)),  # a line is connected a moment before it begins
        ("14:00", "14:04", (CRUDE,)),
    ]


def test_an_outage_of_an_index_is_in_the_hours_of_the_exchange_that_lists_it(tmp_path: Path) -> None:
    """Before these nothing is missed, though nothing is connected; one that goes beyond them ends with them."""
    with Captured(tmp_path, DAYS[0]) as captured:
        captured.instruments()
        run = captured.run("08:55")
        line = run.line()
        line.begin("09:10", INFY, NIFTY_50)
        for token in (INFY, NIFTY_50):
            line.full("09:15:01", token, 100)
        line.closed("10:50")
        run.stopped("15:40")
        captured.commit()
    with kitelake.open(tmp_path) as lake:
        lost = Outage(moment_at(DAYS[0], "10:50"), moment_at(DAYS[0], "15:30"), (NIFTY_50, INFY))
        assert [item for item in lake.feed(on_gap="mark") if isinstance(item, Outage)] == [lost]
        (alone,) = [item for item in lake.feed("NSE:NIFTY 50", on_gap="mark") if isinstance(item, Outage)]
        assert alone == Outage(lost.start, lost.stop, (NIFTY_50,))


@pytest.mark.parametrize("symbols", [None, "NSE:INFY"])
def test_a_day_without_ticks_has_its_outages(tmp_path: Path, symbols: str | None) -> None:
    """The service runs, and is not connected while there is trading; on Saturday is none, on Sunday nothing says so."""
    with Captured(tmp_path, "2026-11-19") as captured:
        captured.instruments()
        captured.on("2026-11-20").record("NSE", share=[("continuous", "09:15-15:30")])
        captured.on("2026-11-21").record("NSE")
        for day in ("2026-11-19", "2026-11-20", "2026-11-21", "2026-11-22"):
            run = captured.on(day).run("08:55")
            line = run.line()
            line.begin("08:56", INFY)
            if day == "2026-11-19":
                line.full("09:15:01", INFY, 100, volume=1)
                line.full("09:15:02", INFY, 101, volume=2)
            else:
                line.closed("09:00")
            run.stopped("15:40")
        captured.commit()
    with kitelake.open(tmp_path) as lake:
        assert [f"{day}" for day in lake.look().dates("ticks")] == ["2026-11-19"]
        friday = Outage(moment_at(dt.date(2026, 11, 20), "09:15"), moment_at(dt.date(2026, 11, 20), "15:30"), (INFY,))
        feed = lake.feed(symbols, "2026-11-19", "2026-11-23", bars="1m", on_gap="mark")
        found = list(feed)
        assert [type(item) for item in found] == [FeedTick, FeedTick, Bar, Outage]
        assert found[3] == friday
        assert list(lake.feed(symbols, bars="1m", on_gap="mark", position=feed.position)) == []
        assert list(lake.feed(symbols, "2026-11-20", "2026-11-21", on_gap="mark")) == [friday]
        assert list(lake.feed(symbols, "2026-11-20", "2026-11-21")) == []
        with pytest.raises(OutageError, match="from 2026-11-20 09:15:00"):
            list(lake.feed(symbols, "2026-11-20", on_gap="raise"))


def test_an_outage_can_stop_a_feed(fed: Fed) -> None:
    """What was received before comes first, and what came then can still be read."""
    _, lake = fed
    feed = lake.feed("NSE:INFY", "2026-11-19 09:19", "2026-11-20", on_gap="raise")
    ticks = []
    with pytest.raises(OutageError, match=r"from 2026-11-19 09:20:01\+05:30 to .* nothing of 1 instruments could be"):
        ticks += [tick.received_at for tick in feed if isinstance(tick, FeedTick)]
    assert feed.position is not None
    assert feed.position.received_at == moment_at(DAYS[0], "09:26:59.990000")
    assert next(iter(feed)).received_at == moment_at(DAYS[0], "09:27:00.200000")  # type: ignore[union-attr]


CANDLES = """date,open,high,low,close,volume
2026-11-18 15:28,10,12,9,11,100
2026-11-18 15:29,11,13,10,12,200
2026-11-19 09:15,1,1,1,1,1
"""


def test_candles_come_before_the_first_tick(fed: Fed, tmp_path: Path) -> None:
    """As bars at their end; those that end after the range begins are left out."""
    _, lake = fed
    file = tmp_path / "candles.csv"
    file.write_text(CANDLES)
    evening = dt.date(2026, 11, 18)
    warm = [
        Bar("NSE:INFY", moment_at(evening, "15:29"), 10, 12, 9, 11, 100),
        Bar("NSE:INFY", moment_at(evening, "15:30"), 11, 13, 10, 12, 200),
    ]
    feed = lake.feed("NSE:INFY", bars="1m", warmup=file)
    items = iter(feed)
    assert next(items) == warm[0]
    again = lake.feed("NSE:INFY", bars="1m", warmup=file, position=feed.position)
    assert next(iter(again)) == warm[1]
    assert next(items) == warm[1]
    assert isinstance(next(items), FeedTick)
    sought = lake.feed("NSE:INFY", bars="1m", warmup={"NSE:INFY": file})
    sought.seek("2026-11-18 15:30")
    assert next(iter(sought)) == warm[1]
    several = lake.feed(["NSE:INFY", "NSE:TINY"], warmup={"NSE:TINY": file, "NSE:INFY": file})
    assert [item.symbol for item in several if isinstance(item, Bar)] == ["NSE:INFY", "NSE:TINY"] * 2
    assert given(lake.feed("NSE:INFY", warmup=file).batches()) == given(lake.feed("NSE:INFY").batches())
    short = lake.feed("INFY", warmup=file)
    assert next(iter(short)) == warm[0]
    with pytest.raises(FeedError, match=r"warmup: got candles for 'NSE:\*', expected the symbol of one instrument"):
        lake.feed("NSE:*", warmup=file)


def test_bars_of_what_is_not_listed_every_day(tmp_path: Path) -> None:
    """Those of the days on which it is; of a token that no list has, without a name."""
    with Captured(tmp_path, DAYS[1]) as captured:
        captured.instruments(LISTED.replace("TINY,TINY", "OTHER,OTHER"))
        for day in DAYS[1:]:
            line = captured.on(day).run("08:55").line()
            line.begin("09:14", INFY, TINY, UNLISTED)
            for token in (INFY, TINY, UNLISTED):
                line.full("09:15:01", token, 100, volume=1)
                line.full("09:15:02", token, 101, volume=2)
        captured.instruments()
    with kitelake.open(tmp_path) as lake:
        names: list[str | int] = ["NSE:INFY", "NSE:TINY", UNLISTED]
        found = [(bar.time, bar.symbol) for bar in lake.feed(names, bars="1m", ticks=False) if isinstance(bar, Bar)]
        assert found == [
            (moment_at(DAYS[1], "09:16"), None),
            (moment_at(DAYS[1], "09:16"), "NSE:INFY"),
            (moment_at(DAYS[2], "09:16"), None),
            (moment_at(DAYS[2], "09:16"), "NSE:INFY"),
            (moment_at(DAYS[2], "09:16"), "NSE:TINY"),
        ]
        assert len(list(lake.feed("NSE:TINY", bars="1m"))) == 3


def test_bars_of_everything_before_the_first_list(tmp_path: Path) -> None:
    """By their tokens, without a name."""
    with Captured(tmp_path, DAYS[0]) as captured:
        for day in DAYS[:2]:
            line = captured.on(day).run("08:55").line()
            line.begin("09:14", INFY)
            line.full("09:15:01", INFY, 100, volume=1)
            line.full("09:15:02", INFY, 101, volume=2)
        captured.instruments()
    with kitelake.open(tmp_path) as lake:
        found = [(bar.time, bar.symbol) for bar in lake.feed(bars="1m", ticks=False) if isinstance(bar, Bar)]
        assert found == [(moment_at(DAYS[0], "09:16"), None), (moment_at(DAYS[1], "09:16"), "NSE:INFY")]
