"""Ticks of a feed: the fields of the stream's, and the official client's dictionaries."""

import copy
import datetime as dt
import pickle
import sys

import pytest

import kitelake
from ingest.manager.tick_dicts import ticks_of
from queries.feed import FeedTick
from tests.support.captured import Captured
from tests.support.feeding import expected, frames

Fed = tuple[Captured, kitelake.Lake]


def test_a_tick_has_the_fields_of_the_streams(fed: Fed) -> None:
    _, lake = fed
    ticks = [item for item in lake.feed(columns="all") if isinstance(item, FeedTick)]
    rows = expected(lake, ["*"])
    assert len(ticks) == len(rows)
    for tick, row in zip(ticks, rows, strict=True):
        whole = tick.tick()
        for name in kitelake.Tick.__dataclass_fields__:
            value = getattr(tick, name)
            assert getattr(whole, name) == value
            if name in row:
                assert value == row[name]
        assert (tick.seq, tick.stream, tick.symbol) == (row["seq"], row["stream"], row["symbol"])
        assert len(tick.bids) == len(tick.asks) == (0 if row["bid_price_1"] is None else 5)
    assert {tick.mode for tick in ticks} == {kitelake.Mode.FULL, kitelake.Mode.QUOTE, kitelake.Mode.LTP}
    assert isinstance(ticks[0].exchange_timestamp, dt.datetime)
    assert ticks[0].exchange_timestamp.utcoffset() == dt.timedelta(hours=5, minutes=30)


def test_a_field_that_was_not_asked_for_says_how_to_ask(fed: Fed) -> None:
    _, lake = fed
    tick = next(iter(lake.feed("NSE:INFY", columns=["last_price", "received_at"])))
    assert repr(tick) == f"FeedTick(last_price=1490.0, received_at={tick.received_at!r})"  # type: ignore[union-attr]
    for read in (lambda: tick.oi, lambda: tick.bids, lambda: tick.exchange_timestamp, tick.tick):  # type: ignore[union-attr]
        with pytest.raises(AttributeError, match="this feed has the columns last_price, received_at; columns="):
            read()
    with pytest.raises(AttributeError, match=r"bids: .*; columns='all' asks for the whole book"):
        tick.bids  # type: ignore[union-attr]  # noqa: B018
    with pytest.raises(AttributeError):
        tick.nothing  # type: ignore[union-attr]  # noqa: B018


def test_a_misspelled_field_is_told_the_nearest_that_there_is(fed: Fed, capsys: pytest.CaptureFixture[str]) -> None:
    """By Python itself, at no cost where a field is read."""
    _, lake = fed
    tick = next(iter(lake.feed("NSE:INFY", columns=["bid_price_1", "received_at"])))
    for asked, nearest in (("bid_prise_1", "bid_price_1"), ("recieved_at", "received_at"), ("ask_prise_1", None)):
        with pytest.raises(AttributeError) as error:
            getattr(tick, asked)
        sys.__excepthook__(AttributeError, error.value, error.value.__traceback__)
        told = capsys.readouterr().err
        assert f"'FeedTick' object has no attribute '{asked}'" in told
        assert nearest is None or f"Did you mean: '{nearest}'?" in told
        assert "Did you mean: 'ask_price_1'" not in told  # it was not asked for
    assert {"bid_price_1", "received_at", "tick", "bids"} <= {*dir(tick)}
    assert "ask_price_1" not in dir(tick)


def test_dictionaries_are_the_official_clients(fed: Fed) -> None:
    """Of each packet what the stream makes of it; one stream's come in its order."""
    captured, lake = fed
    sent = [tick for frame in frames(captured) for tick in ticks_of(frame)]
    found = list(lake.feed().dicts())
    assert len(found) > 500
    assert [each for each in sent if each in found] != []
    one = lake.feed(None, "2026-11-19", "2026-11-20").dicts()
    of_day = [each for each, packet in zip(sent, captured.packets, strict=True) if packet.source[0] == _first(captured)]
    assert list(one) == of_day
    assert {frozenset(each) for each in found} <= {frozenset(each) for each in sent}


def _first(captured: Captured) -> str:
    return captured.packets[0].source[0]


def test_a_tick_can_be_copied_and_sent(fed: Fed) -> None:
    """With its own row alone."""
    _, lake = fed
    tick = list(lake.feed(columns="all", stop="2026-11-19 09:16"))[3]
    for again in (pickle.loads(pickle.dumps(tick)), copy.copy(tick), copy.deepcopy(tick)):
        assert repr(again) == repr(tick)
        with pytest.raises(AttributeError, match="has no attribute"):
            getattr(again, "prize")  # noqa: B009
    few = next(iter(lake.feed(columns=["last_price"])))
    assert len(pickle.dumps(few)) < 2_000
