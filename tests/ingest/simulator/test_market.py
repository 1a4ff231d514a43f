"""The market model: what every packet must satisfy, and what makes the whole look like a market."""

import contextlib
import datetime as dt
import hashlib
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from ingest.server.source import StreamMode
from ingest.simulator.market import Market
from tests.support.simulation import ROOT, values_of

START = dt.datetime(2026, 11, 23, 4, 0, tzinfo=dt.UTC)


def market(size: int = 1000, seed: int = 1, **settings: float) -> Market:
    return Market(size=size, seed=seed, start=START, **settings)


def row_of(one: Market, token: int) -> int:
    return one.tokens.tolist().index(token)  # type: ignore[no-any-return]


def full(one: Market, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    return one.images.frame(rows, np.full(len(rows), StreamMode.FULL, np.uint8))


def test_the_same_seed_gives_the_same_packets() -> None:
    first, second, other = market(), market(), market(seed=2)
    digests = []
    for one in (first, second, other):
        digest = hashlib.sha256()
        for _ in range(40):
            digest.update(full(one, one.step()))
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_packets_in_any_process() -> None:
    program = (
        "import datetime as dt, hashlib, numpy as np; from ingest.simulator.market import Market\n"
        "one = Market(size=500, seed=3, start=dt.datetime(2026, 11, 23, 4, tzinfo=dt.UTC)); digest = hashlib.sha256()\n"
        "for _ in range(20):\n"
        "    rows = one.step(); digest.update(one.images.frame(rows, np.full(len(rows), 3, np.uint8)))\n"
        "print(digest.hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "2", "TZ": "America/New_York"}
    there = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=environment, text=True)
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(program, {})
    assert there == here.getvalue()


def test_packets_do_not_depend_on_what_is_asked_for() -> None:
    watched, unwatched = market(), market()
    for _ in range(20):
        rows = watched.step()
        full(watched, rows)
        unwatched.step()
    everybody = np.arange(len(watched))
    assert full(watched, everybody) == full(unwatched, everybody)


def check_packet(one: Market, row: int, before: dict[str, int] | None) -> dict[str, int]:
    """Everything that must hold of one full packet, and between it and the same instrument's previous one."""
    listed = one.universe.instruments[row]
    values = values_of(one.images.packet(row, StreamMode.FULL))
    assert values["instrument_token"] == listed.instrument_token
    assert values["last_price"] > 0
    if listed.segment == "INDICES":
        assert len(one.images.packet(row, StreamMode.FULL)) == 32
        assert values["price_change"] == values["last_price"] - values["close"]
    else:
        tick = round(listed.tick_size * listed.divisor)
        prices = [values[name] for name in ("last_price", "open", "high", "low", "close")]
        prices += [price for _, price, _ in values["bids"] + values["asks"]]
        assert all(price % tick == 0 for price in prices), listed
        bids = [level for level in values["bids"] if level != (0, 0, 0)]
        asks = [level for level in values["asks"] if level != (0, 0, 0)]
        assert all(quantity > 0 and orders > 0 for quantity, _, orders in bids + asks)
        assert bids == sorted(bids, key=lambda level: -level[1]), "best first"
        assert asks == sorted(asks, key=lambda level: level[1]), "best first"
        if asks:
            assert asks[0][1] >= values["last_price"]
            best_bid = bids[0][1] if bids else 0
            assert best_bid <= values["last_price"]
            assert best_bid < asks[0][1]
            assert values["total_buy_quantity"] >= sum(level[0] for level in bids)
            assert values["total_sell_quantity"] >= sum(level[0] for level in asks)
        assert values["last_traded_quantity"] % listed.lot_size == 0
        assert values["volume_traded"] % listed.lot_size == 0 or values["volume_traded"] >= 2**31
        assert values["last_trade_time"] <= values["exchange_timestamp"] <= one.seconds
        if listed.expiry is None:
            assert values["oi"] == values["oi_day_high"] == values["oi_day_low"] == 0
        else:
            assert values["oi_day_low"] <= values["oi"] <= values["oi_day_high"]
        if values["volume_traded"]:
            assert values["low"] - 1 <= values["average_traded_price"] <= values["high"] + 1
        if before and "volume_traded" in before:
            assert values["volume_traded"] >= before["volume_traded"]
            assert values["last_trade_time"] >= before["last_trade_time"]
    if values["open"]:
        assert values["low"] <= min(values["last_price"], values["open"])
        assert values["high"] >= max(values["last_price"], values["open"])
        if before and before["open"]:
            assert values["high"] >= before["high"]
            assert values["low"] <= before["low"]
            assert values["open"] == before["open"]
    if before:
        assert values["close"] == before["close"]
        assert values["exchange_timestamp"] >= before["exchange_timestamp"]
    return values


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_packet_is_one_that_a_market_could_send(seed: int) -> None:
    one = market(600, seed, rate=20.0)
    known = {row: check_packet(one, row, None) for row in range(len(one))}
    assert any(not values["open"] for values in known.values()), "some have not traded today"
    for _ in range(40):
        rows = one.step()
        assert len(set(rows.tolist())) == len(rows), "each at most once a step"
        for row in rows.tolist():
            known[row] = check_packet(one, row, known[row])


def test_values_pass_the_signs_that_careless_readers_trip_over() -> None:
    one = market(1000)
    values = [values_of(one.images.packet(row, StreamMode.FULL)) for row in range(len(one))]
    assert any(value["price_change"] < 0 for value in values if "price_change" in value), "an index below its close"
    assert any(value.get("volume_traded", 0) > 2**31 for value in values), "a volume that int32 does not hold"


def test_a_quote_and_an_ltp_packet_are_the_beginning_of_the_full_one() -> None:
    one = market(100)
    for row in range(len(one)):
        whole = one.images.packet(row, StreamMode.FULL)
        quote = one.images.packet(row, StreamMode.QUOTE)
        ltp = one.images.packet(row, StreamMode.LTP)
        assert (len(ltp), len(quote), len(whole)) == ((8, 28, 32) if one.index[row] else (8, 44, 184))
        assert whole.startswith(quote)
        assert quote.startswith(ltp)


@pytest.mark.slow
def test_busy_names_tick_often_and_quiet_ones_rarely() -> None:
    one = market(10_000)
    counts = np.zeros(len(one))
    steps = 400
    for _ in range(steps):
        counts[one.step()] += 1
    a_second = counts / (steps / 4)
    busiest = np.sort(a_second)[-len(one) // 50 :]
    assert np.min(busiest) > 0.6
    assert 1.0 < busiest.mean() < 2.0
    assert np.median(a_second) < 0.2
    assert 0.01 < np.min(one.activity) < 0.1
    assert 0.8 < a_second.sum() / one.activity.sum() < 1.05
    nifty = row_of(one, 256265)
    assert one.activity[nifty] >= 1.0


def test_rate_multiplies_activity() -> None:
    assert market(rate=3.0).activity.sum() == pytest.approx(3 * market().activity.sum())


def test_options_are_priced_from_what_they_are_written_on() -> None:
    one = market(10_000)
    spot = one.walk.spot[list(one.universe.underlyings).index("NSE:NIFTY 50")]
    calls = {}
    for row, listed in enumerate(one.universe.instruments):
        if listed.name == "NIFTY" and listed.instrument_type == "CE" and listed.expiry == dt.date(2026, 12, 29):
            calls[listed.strike] = values_of(one.images.packet(row, StreamMode.LTP))["last_price"] / 100
    strikes = sorted(calls)
    assert all(calls[low] > calls[high] for low, high in zip(strikes[:-4], strikes[4:], strict=True))
    lowest = strikes[0]
    assert spot - lowest < calls[lowest] < spot - lowest + 1500, "in the money: intrinsic and some time value"


def test_the_clock_is_the_start_plus_the_steps() -> None:
    one = market(100)
    assert one.seconds == int(START.timestamp())
    for _ in range(8):
        one.step()
    one.skip(4)
    assert one.seconds == int(START.timestamp()) + 3


def test_a_new_day_starts_its_sums_again() -> None:
    one = Market(size=200, seed=1, start=dt.datetime(2026, 11, 23, 18, 29, 59, tzinfo=dt.UTC), rate=1000.0)
    row = row_of(one, 408065)
    for _ in range(3):
        one.step()
    before = values_of(one.images.packet(row, StreamMode.FULL))
    one.step()  # midnight in India
    after = values_of(one.images.packet(row, StreamMode.FULL))
    assert before["exchange_timestamp"] < after["exchange_timestamp"] == one.seconds
    assert after["volume_traded"] < before["volume_traded"]
    assert after["close"] == before["last_price"]
    for _ in range(8):
        one.step()
        check_packet(one, row, None)
    index = values_of(one.images.packet(row_of(one, 256265), StreamMode.FULL))
    assert 0 < index["low"] <= index["open"] <= index["high"]
