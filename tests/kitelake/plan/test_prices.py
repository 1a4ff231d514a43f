"""Where the prices come from around which strikes are chosen: the stream, else what was captured, else the list."""

import asyncio
import contextlib
import datetime as dt
import struct
import threading
from pathlib import Path

import pytest
import websockets

from ingest.accounts.account import Account
from ingest.instruments.criteria import Select
from ingest.instruments.selection import select
from ingest.instruments.underlyings import Price
from ingest.manager.manager import TickerManager
from ingest.wire import Mode
from kitelake.plan.prices import LOOK_BACK_DAYS, captured_prices, first_known, live_prices
from storage.clock import IST
from storage.commit.writer import SegmentWriter
from storage.layout import DataLayout
from tests.support.lake import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder
from tests.support.lists import NIFTY_50, Listing


def captured(folder: Path, *ticks: tuple[int, int, int]) -> None:
    """Tables with these ticks: how many days ago, of what, at how many paise."""
    with Feed(folder, "20261101T034500-aaaaaa") as feed:
        noon = dt.datetime.combine(dt.datetime.now(IST).date(), dt.time(12), IST)
        for second, (ago, token, paise) in enumerate(ticks):
            feed.now_ns = (int(noon.timestamp()) + second) * 10**9 - ago * DAY_NS
            feed.tick((token, paise))
    SegmentWriter(DataLayout(folder), ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event())


def test_the_stream_comes_before_what_was_captured_and_that_before_the_list() -> None:
    listed = Listing().instruments()
    live, before = {1: Price(10, "the live stream")}, {1: Price(11, "captured"), 2: Price(12, "captured")}
    price_of = first_known(live, before, instruments=listed)
    assert [price_of(token) for token in (1, 2, INFY, NIFTY_FUT)] == [
        Price(10, "the live stream"),
        Price(12, "captured"),
        Price(1500.5, "the instrument list"),
        None,
    ]
    assert first_known({INFY: Price(9, "captured")}, instruments=listed)(INFY) == Price(9, "captured")


@pytest.mark.parametrize("none", [0.0, -0.05, float("nan"), float("inf"), float("-inf")])
def test_what_is_no_price_hides_none(none: float) -> None:
    listed = Listing().instruments()
    live, before = {1: Price(none, "the live stream")}, {1: Price(24_510, "captured")}
    assert first_known(live, before, instruments=listed)(1) == Price(24_510, "captured")
    assert first_known(before, live, instruments=listed)(1) == Price(24_510, "captured")
    nowhere = {token: Price(none, "the live stream") for token in (1, INFY)}
    price_of = first_known(nowhere, nowhere, instruments=listed)
    assert (price_of(1), price_of(INFY)) == (None, Price(1500.5, "the instrument list"))


def test_strikes_are_chosen_around_what_was_captured_when_the_stream_has_zero() -> None:
    rows = Listing()
    for strike in (24_400, 24_500, 24_600):
        rows.add(f"NIFTY26NOV{strike}CE", "NIFTY", "2026-11-24", strike, "CE", "NFO-OPT")
    listed = rows.instruments()
    price_of = first_known(
        {NIFTY_50: Price(0, "the live stream")}, {NIFTY_50: Price(24_510, "captured at 15:29")}, instruments=listed
    )
    what = Select.model_validate({"names": "NIFTY", "types": "CE", "strikes": {"around": "spot", "count": 0}})
    selection = select(listed, what, price_of)
    assert [listed.symbol(token) for token in selection.tokens] == ["NFO:NIFTY26NOV24500CE"]
    assert selection.notes == ("NIFTY around 24,510.00 of NSE:NIFTY 50 (captured at 15:29)",)


def test_what_was_captured_last_within_a_week_and_when(tmp_path: Path) -> None:
    captured(
        tmp_path,
        (LOOK_BACK_DAYS + 1, CRUDE, 700),
        (LOOK_BACK_DAYS, NIFTY_FUT, 600),
        (3, INFY, 100),
        (2, INFY, 200),
        (2, INFY, 300),
    )
    found = captured_prices(tmp_path, [INFY, NIFTY_FUT, CRUDE, 99])
    assert {token: price.value for token, price in found.items()} == {INFY: 3.0, NIFTY_FUT: 6.0}
    day = dt.datetime.now(IST).date() - dt.timedelta(days=2)
    assert found[INFY].source.startswith(f"captured at {day} ")


def test_a_last_value_of_zero_is_passed_over(tmp_path: Path) -> None:
    """On its day for the last good one, and where a day has nothing but zeros, for the day before."""
    captured(
        tmp_path,
        (3, CRUDE, 500),
        (2, INFY, 200),
        (2, INFY, 300),
        (2, INFY, 0),
        (1, CRUDE, 0),
        (1, NIFTY_FUT, 0),
    )
    found = captured_prices(tmp_path, [INFY, CRUDE, NIFTY_FUT])
    assert {token: price.value for token, price in found.items()} == {INFY: 3.0, CRUDE: 5.0}
    days = [dt.datetime.now(IST).date() - dt.timedelta(days=ago) for ago in (2, 3)]
    sources = [f"captured at {day} 12:00" for day in days]
    assert [found[token].source for token in (INFY, CRUDE)] == sources


@pytest.mark.parametrize("folder", ["", "none"])
def test_where_nothing_was_captured_there_is_none(tmp_path: Path, folder: str) -> None:
    assert captured_prices(tmp_path / folder, [INFY]) == {}


@pytest.mark.parametrize("none", [0, -5])
async def test_the_stream_is_listened_to_until_it_brings_a_price(monkeypatch: pytest.MonkeyPatch, none: int) -> None:
    monkeypatch.setattr("kitelake.plan.prices.LISTEN_SECONDS", 60.0)
    # Of what comes in one frame the last counts, unless it is no price.
    packets = b"".join(struct.pack(">HIi", 8, NIFTY_50, paise) for paise in (none, 2_451_000, none))

    async def market(socket: websockets.ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await socket.send(struct.pack(">H", 3) + packets)
                await asyncio.sleep(0.01)

    async with websockets.serve(market, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with TickerManager([Account("one", "key", "token")], ws_url=f"ws://127.0.0.1:{port}") as manager:
            await manager.subscribe([NIFTY_50], Mode.LTP)
            assert await live_prices(manager, [NIFTY_50]) == {NIFTY_50: Price(24_510, "the live stream")}
            assert await live_prices(manager, []) == {}
            monkeypatch.setattr("kitelake.plan.prices.LISTEN_SECONDS", 0.1)
            found = await live_prices(manager, [NIFTY_50, 99])
            assert 99 not in found, "it is not waited for"
