"""Our decoder against the official client's parser, `kiteconnect.KiteTicker._parse_binary`.

The known differences, all of them (`as_official` undoes them, or a test below shows them):

1. Prices: the client reads them unsigned, so a negative price comes out 2^32 / divisor too high. They are signed.
2. Times: the client gives naive datetimes in the host's zone. Ours are UTC.
3. A time of 0 is the year 1970 to the client. It means none: null.
4. `price_change` of index packets: the client leaves it out.
5. `change`, a percentage, is computed by the client from last price and close. We store what was sent.
6. `tradable` is the client's word for "not of the segment INDICES".
7. Its depth is nested lists of dictionaries, its open, high, low and close a dictionary `ohlc`; ours are columns.
8. Of a truncated frame's last packet the client drops the rest without a word; or raises struct.error, and the frame's
   whole packets are lost with it, if fewer than four bytes are left (as it does for any packet so short); or takes
   the rest for a shorter packet, if that has its length. We yield the whole packets and report the rest.
9. Trailing bytes and packets of unknown lengths are dropped without a word. We report them.

NCO was one until version 5: the client now divides by 10,000, as we do.
"""

import struct
from collections.abc import Iterator
from datetime import datetime
from random import Random
from typing import Any

import pytest

from ingest.wire import decode_frames, decode_frames_with_report
from ingest.wire.layouts import divisor_of
from tests.support.packets import LENGTHS, SEGMENTS, frame_of, random_frame, random_packet


def as_official(row: dict[str, Any]) -> dict[str, Any]:
    """One of our rows as the client would have it, but for `change`."""
    divisor = divisor_of(row["instrument_token"])

    def price(name: str) -> float:
        return float(round(row[name] * divisor) % 2**32 / divisor)  # difference 1

    def moment(name: str) -> datetime:
        return datetime.fromtimestamp(row[name].timestamp() if row[name] else 0)  # noqa: DTZ006 (differences 2, 3)

    tick = {
        "tradable": row["exchange"] != "INDICES",
        "mode": row["mode"],
        "instrument_token": row["instrument_token"],
        "last_price": price("last_price"),
    }
    if row["mode"] == "ltp":
        return tick
    tick["ohlc"] = {name: price(name) for name in ("open", "high", "low", "close")}
    if row["volume_traded"] is not None:
        tick["average_traded_price"] = price("average_traded_price")
        for name in ("last_traded_quantity", "volume_traded", "total_buy_quantity", "total_sell_quantity"):
            tick[name] = row[name]
    if row["mode"] == "full":
        tick["exchange_timestamp"] = moment("exchange_timestamp")
    if row["oi"] is not None:
        tick["last_trade_time"] = moment("last_trade_time")
        tick |= {name: row[name] for name in ("oi", "oi_day_high", "oi_day_low")}
        tick["depth"] = {
            side: [
                {
                    "quantity": row[f"{prefix}_quantity_{level}"],
                    "price": price(f"{prefix}_price_{level}"),
                    "orders": row[f"{prefix}_orders_{level}"],
                }
                for level in range(1, 6)
            ]
            for side, prefix in (("buy", "bid"), ("sell", "ask"))
        }
    return tick


def without_change(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in tick.items() if name != "change"} for tick in ticks]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("segment", SEGMENTS)
def test_same_values(official: Any, length: int, segment: int) -> None:
    random = Random(1000 * segment + length)
    packets = [
        packet[:3] + bytes([segment]) + packet[4:] for packet in (random_packet(random, (length,)) for _ in range(20))
    ]
    frame = frame_of(packets)
    ticks = without_change(official._parse_binary(frame))
    assert [as_official(row) for row in decode_frames([frame]).to_pylist()] == ticks
    assert len(ticks) == 20


def test_same_values_in_mixed_frames_in_any_zone(official: Any, host_zone: str) -> None:
    random = Random(host_zone)
    frames = [random_frame(random, random.randrange(1, 30)) for _ in range(30)]
    ticks = [tick for frame in frames for tick in without_change(official._parse_binary(frame))]
    assert [as_official(row) for row in decode_frames(frames).to_pylist()] == ticks


def test_the_host_zone_changes_nothing(host_zone: str) -> None:
    frames = [random_frame(Random(6), 50)]
    table = decode_frames(frames, received_at_ns=[1795372200 * 10**9 - 1])
    assert table["date"][0].as_py().isoformat() == "2026-11-22", host_zone
    times = table["exchange_timestamp"].drop_null().cast("int64").to_pylist()
    in_packets = []
    for packet, at in ((p, {32: 28, 184: 60}.get(len(p))) for p in packets_in(frames[0])):
        if at is not None and (seconds := struct.unpack_from(">I", packet, at)[0]):
            in_packets.append(seconds * 10**6)
    assert times == in_packets


def packets_in(frame: bytes) -> Iterator[bytes]:
    at = 2
    while at < len(frame):
        (length,) = struct.unpack_from(">H", frame, at)
        yield frame[at + 2 : at + 2 + length]
        at += 2 + length


def test_negative_prices_are_the_first_difference(official: Any) -> None:
    frame = frame_of([struct.pack(">Iiiiiii", 0x0109, 100, 100, 100, 100, 200, -100)])
    assert decode_frames([frame])["price_change"].to_pylist() == [-1.0]
    assert "price_change" not in official._parse_binary(frame)[0]
    negative = frame_of([struct.pack(">Ii", 0x0107, -3700)])  # crude oil, April 2020
    assert decode_frames([negative])["last_price"].to_pylist() == [-37.0]
    assert official._parse_binary(negative)[0]["last_price"] == (2**32 - 3700) / 100


@pytest.mark.parametrize(
    ("cut", "outcome"),
    [(1, "silence"), (60, "silence"), (180, "silence"), (182, "raises"), (185, "raises"), (140, "a false quote")],
)
def test_truncated_frames_are_the_eighth(official: Any, cut: int, outcome: str) -> None:
    packets = [random_packet(Random(7), (length,)) for length in (44, 8, 184)]
    frame = frame_of(packets)[:-cut]
    whole = without_change(official._parse_binary(frame_of(packets[:2])))
    table, report = decode_frames_with_report([frame])
    assert [as_official(row) for row in table.to_pylist()] == whole
    assert report.quarantined_bytes == 186 - cut
    if outcome == "raises":
        with pytest.raises(struct.error):
            official._parse_binary(frame)
    else:
        ticks = without_change(official._parse_binary(frame))
        assert ticks[:2] == whole
        assert [tick["mode"] for tick in ticks[2:]] == (["quote"] if outcome == "a false quote" else [])


def test_unknown_lengths_and_trailing_bytes_are_the_ninth(official: Any) -> None:
    frame = frame_of([struct.pack(">Ii", 0x0101, 5), bytes(12), struct.pack(">Ii", 0x0101, 6)]) + b"xyz"
    table, report = decode_frames_with_report([frame])
    assert [as_official(row) for row in table.to_pylist()] == official._parse_binary(frame)
    assert [q.length for q in report.quarantined] == [12, 3]
