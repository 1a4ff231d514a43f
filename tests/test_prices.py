"""Where the prices come from around which strikes are chosen: the stream, else what was captured, else the list."""

import datetime as dt
import threading
from pathlib import Path

import pytest

from ingest.instruments import Instruments, parse_instruments
from ingest.selectors import Price
from kitelake.prices import LOOK_BACK_DAYS, captured_prices, first_known, live_prices
from kitelake.service import Service
from storage.layout import DataLayout
from storage.schema import IST
from storage.writer import SegmentWriter
from tests.lakekit import CRUDE, DAY_NS, INFY, NIFTY_FUT, Feed, ToyDecoder
from tests.test_instruments import DAY, HEADER, ROWS
from tests.test_service import KEPT, Market, run, write


def captured(folder: Path, *ticks: tuple[int, int, int]) -> None:
    """Tables with these ticks: how many days ago, of what, at how many paise."""
    with Feed(folder, "20261101T034500-aaaaaa") as feed:
        noon = dt.datetime.combine(dt.datetime.now(IST).date(), dt.time(12), IST)
        for second, (ago, token, paise) in enumerate(ticks):
            feed.now_ns = (int(noon.timestamp()) + second) * 10**9 - ago * DAY_NS
            feed.tick((token, paise))
    SegmentWriter(DataLayout(folder), ToyDecoder()).run(poll_seconds=0.01, stop=threading.Event())


def test_the_stream_comes_before_what_was_captured_and_that_before_the_list() -> None:
    listed = Instruments(parse_instruments((HEADER + ROWS).encode(), date=DAY))
    live, before = {1: Price(10, "the live stream")}, {1: Price(11, "captured"), 2: Price(12, "captured")}
    price_of = first_known(live, before, instruments=listed)
    assert [price_of(token) for token in (1, 2, INFY, NIFTY_FUT)] == [
        Price(10, "the live stream"),
        Price(12, "captured"),
        Price(1500.5, "the instrument list"),
        None,
    ]
    assert first_known({INFY: Price(9, "captured")}, instruments=listed)(INFY) == Price(9, "captured")


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


@pytest.mark.parametrize("folder", ["", "none"])
def test_where_nothing_was_captured_there_is_none(tmp_path: Path, folder: str) -> None:
    assert captured_prices(tmp_path / folder, [INFY]) == {}


@pytest.mark.slow
def test_what_the_stream_brings_within_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "config.yaml", KEPT)

    async def act(service: Service, market: Market) -> None:
        await market.subscribed(2)
        tokens = service.desk.lists["kept"].tokens
        manager = service.streamer.manager
        assert await live_prices(manager, []) == {}
        found = await live_prices(manager, tokens)
        assert found.keys() == set(tokens)
        assert all(price.value > 0 and price.source == "the live stream" for price in found.values())
        monkeypatch.setattr("kitelake.prices.LISTEN_SECONDS", 0.5)
        assert await live_prices(manager, [99]) == {}, "it is not waited for"

    run(tmp_path / "config.yaml", act)
