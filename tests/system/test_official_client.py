"""The broker's own client beside the service, on the same stream: what it parses is what is stored."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import kitelake
from ingest.instruments.listing import parse_instruments
from tests.support.official_client import official_client
from tests.support.running import running
from tests.support.scaled import scaled
from tests.support.simulation import simulation, split_frame
from tests.support.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

SAME_NAME = (
    "instrument_token",
    "mode",
    "last_price",
    "last_traded_quantity",
    "average_traded_price",
    "volume_traded",
    "total_buy_quantity",
    "total_sell_quantity",
    "last_trade_time",
    "oi",
    "oi_day_high",
    "oi_day_low",
    "exchange_timestamp",
)


def flat(tick: dict[str, Any]) -> dict[str, Any]:
    """The client's tick with the columns of the table for keys. Its times are epoch seconds here."""
    row = {name: tick[name] for name in SAME_NAME if name in tick}
    row |= tick.get("ohlc", {})
    for side, ours in (("buy", "bid"), ("sell", "ask")):
        for level, entry in enumerate(tick.get("depth", {}).get(side, ()), start=1):
            row |= {f"{ours}_{name}_{level}": entry[name] for name in ("price", "quantity", "orders")}
    return row


def as_epoch(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.timestamp() if isinstance(value, dt.datetime) else value for name, value in row.items()}


def packets_and_ticks(received: Any) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for one in received:
        yield from zip(split_frame(one.frame), one.ticks, strict=True)


def test_the_official_client_gets_what_is_stored(tmp_path: Path) -> None:
    with simulation(instruments=600, rate=20) as simulator:
        with urlopen(f"{simulator.api}/instruments", timeout=PATIENCE_SECONDS) as answer:
            table = parse_instruments(answer.read(), date=dt.date(2026, 11, 22))
        listed: list[int] = table["instrument_token"].to_pylist()
        modes = {"full": listed[0::3], "quote": listed[1::3], "ltp": listed[2::3]}
        lists = [{"name": mode, "mode": mode, "instruments": tokens} for mode, tokens in modes.items()]
        two = simulator.account("two")
        with running(tmp_path, simulator, subscriptions=lists, capture={"connections": 1}) as service:
            simulator.wait_for(lambda stats: stats["packets"] > 3 * len(listed))
            official = official_client(simulator.ws, two.api_key, two.access_token, modes, tmp_path / "official.jsonl")
            with official as client:
                wait_until(lambda: min(client.ticks(mode) for mode in modes) > scaled(300, 1_000))
                simulator.pause()
                received = client.stop()
            service.stop()
        with kitelake.open(service.data) as lake:
            table = lake.sql("select * from ticks order by stream, seq").arrow()
    stored = dict(zip(kitelake.encode_packets(table), table.to_pylist(), strict=True))
    wanted = {token: mode for mode, tokens in modes.items() for token in tokens}
    compared = {"ltp": 0, "quote": 0, "full": 0}
    for packet, tick in packets_and_ticks(received):
        if tick["mode"] != wanted[tick["instrument_token"]]:
            continue  # the first packet after a subscription comes in the default mode
        if packet not in stored:
            continue  # our own socket may have been away for a moment; that none is lost is tested elsewhere
        row = as_epoch(stored[packet])
        expected = flat(tick)
        assert {name: row[name] for name in expected} == expected
        compared[tick["mode"]] += 1
    assert min(compared.values()) > scaled(150, 500), compared
