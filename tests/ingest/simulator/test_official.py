"""The broker's own client against the simulator: it connects, subscribes in all modes, and reads what was recorded."""

import datetime as dt
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from ingest.server.record import RecordKind, read_record
from tests.support.official_client import official_client
from tests.support.simulation import simulation, split_frame, tokens_of, values_of

DIVISORS = {3: 10_000_000.0, 6: 10_000.0}
UNSIGNED = 2**32  # what the client adds to a negative price: it reads them unsigned


def as_the_client_has_it(packet: bytes) -> dict[str, object]:
    """What the official client makes of a packet, from our own reading of it."""
    values = values_of(packet)
    token = values.pop("instrument_token")
    divisor = DIVISORS.get(token & 0xFF, 100.0)
    expected: dict[str, object] = {
        "tradable": token & 0xFF != 9,
        "mode": {8: "ltp", 28: "quote", 32: "full", 44: "quote", 184: "full"}[len(packet)],
        "instrument_token": token,
    }
    prices = {name: values.pop(name) / divisor for name in ("open", "high", "low", "close") if name in values}
    if prices:
        expected["ohlc"] = prices
        last = values["last_price"] / divisor
        expected["change"] = (last - prices["close"]) * 100 / prices["close"] if prices["close"] else 0
    if "bids" in values:
        expected["depth"] = {
            side: [{"quantity": q, "price": p / divisor, "orders": o} for q, p, o in values.pop(name)]
            for side, name in (("buy", "bids"), ("sell", "asks"))
        }
    values.pop("price_change", None)
    for name, value in values.items():
        expected[name] = value / divisor if name in {"last_price", "average_traded_price"} else value
    return expected


@pytest.mark.slow
def test_the_official_client_reads_what_the_simulator_recorded(tmp_path: Path) -> None:
    with simulation(instruments=600, rate=20, record=tmp_path / "record") as running:
        listed = tokens_of(running.api)
        modes = {"full": listed[0:600:3], "quote": listed[1:600:3], "ltp": listed[2:600:3]}
        account = running.account()
        output = tmp_path / "official.jsonl"
        with official_client(running.ws, account.api_key, account.access_token, modes, output) as client:
            running.wait_for(lambda stats: stats["packets"] > 6000, 60)
            running.fault("order")
            running.pause()
            sent = running.stats()["frames"]
            _wait_for_lines(output, sent)
            received = client.stop()
        running.stop()
    records = list(read_record(tmp_path / "record"))
    frames = [record.payload for record in records if record.kind is RecordKind.PACKETS]
    assert [one.frame for one in received] == frames
    ticks = [tick for one in received for tick in one.ticks]
    packets = [packet for frame in frames for packet in split_frame(frame)]
    assert {len(packet) for packet in packets} == {8, 28, 32, 44, 184}
    assert {packet[3] for packet in packets} == {1, 2, 3, 4, 5, 6, 7, 9}, "every segment"
    assert ticks == [as_the_client_has_it(packet) for packet in packets]
    assert [record.payload for record in records if record.kind is RecordKind.CLOSED] == [b"client 1005"]


@pytest.mark.slow
def test_the_official_client_logs_in_and_reads_the_instruments() -> None:
    with simulation(instruments=600) as running:
        account = running.account()
        kite = _kite_connect()(account.api_key, root=running.api)
        session = kite.generate_session("any", account.api_secret)
        assert session["access_token"] == account.access_token
        assert kite.profile()["user_id"] == session["user_id"]
        listed = kite.instruments()
        assert [one["instrument_token"] for one in listed] == tokens_of(running.api)
        future = next(one for one in listed if one["instrument_type"] == "FUT")
        assert isinstance(future["expiry"], dt.date)
        assert isinstance(future["tick_size"], float)
        kite.set_access_token("wrong")
        with pytest.raises(Exception, match="Incorrect `api_key` or `access_token`") as refusal:
            kite.profile()
        assert type(refusal.value).__name__ == "TokenException"


def _kite_connect() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kiteconnect import KiteConnect
    return KiteConnect


def _wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while (lines := path.read_text().count("\n")) < count:
        assert time.monotonic() < deadline, f"{lines} frames of {count}"
        time.sleep(0.05)
