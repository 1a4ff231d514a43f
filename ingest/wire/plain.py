"""The codec once more, in plain Python: one packet after the other, `struct` and dictionaries.

It is the specification that can be read, and the twin that the vectorised walk and decode are tested against. It
shares nothing with them but the names, numbers and types of `layouts`.
"""

import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from ingest.errors import WireError
from ingest.wire.layouts import Quarantined, QuarantineReason, WireReport, divisor_of
from storage.market import UNKNOWN_EXCHANGE, exchange_of_token
from storage.schema import TICKS

Row = dict[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_IST_OFFSET: Final = timedelta(hours=5, minutes=30)
_OHLC: Final = ("open", "high", "low", "close")
_INDEX_PRICES: Final = ("high", "low", "open", "close", "price_change")


def split_frame(frame: bytes) -> tuple[list[bytes], list[tuple[int, int, QuarantineReason]]]:
    """A frame's good packets, and what is no good packet: offset in the frame, length, reason."""
    if len(frame) == 0:
        return [], [(0, 0, QuarantineReason.EMPTY_FRAME)]
    if len(frame) == 1:
        return [], []
    (claimed,) = struct.unpack_from(">H", frame)
    packets: list[bytes] = []
    ranges: list[tuple[int, int, QuarantineReason]] = []
    at = 2
    for _ in range(claimed):
        left = len(frame) - at
        if left == 0:
            return packets, [*ranges, (at, 0, QuarantineReason.MISSING_PACKETS)]
        if left == 1:
            return packets, [*ranges, (at, 1, QuarantineReason.TRUNCATED_PACKET)]
        (length,) = struct.unpack_from(">H", frame, at)
        packet = frame[at + 2 : at + 2 + length]
        if len(packet) < length:
            return packets, [*ranges, (at, left, QuarantineReason.TRUNCATED_PACKET)]
        if length in (8, 28, 32, 44, 184):
            packets.append(packet)
        else:
            ranges.append((at + 2, length, QuarantineReason.UNKNOWN_LENGTH))
        at += 2 + length
    if at < len(frame):
        ranges.append((at, len(frame) - at, QuarantineReason.TRAILING_BYTES))
    return packets, ranges


def decode_packet(packet: bytes) -> Row:
    """What one good packet says, under the names of the ticks table. What it does not carry is not in the result."""
    token, last_price = struct.unpack_from(">Ii", packet)
    divisor = divisor_of(token)
    row: Row = {
        "exchange": exchange_of_token(token),
        "instrument_token": token,
        "mode": {8: "ltp", 28: "quote", 44: "quote", 32: "full", 184: "full"}[len(packet)],
        "last_price": last_price / divisor,
    }
    if len(packet) in (28, 32):
        prices = struct.unpack_from(">5i", packet, 8)
        row |= {name: price / divisor for name, price in zip(_INDEX_PRICES, prices, strict=True)}
    if len(packet) == 32:
        row["exchange_timestamp"] = _wire_time(packet, 28)
    if len(packet) in (44, 184):
        quantity, average, volume, buy, sell, *ohlc = struct.unpack_from(">IiIII4i", packet, 8)
        row |= {
            "last_traded_quantity": quantity,
            "average_traded_price": average / divisor,
            "volume_traded": volume,
            "total_buy_quantity": buy,
            "total_sell_quantity": sell,
        }
        row |= {name: price / divisor for name, price in zip(_OHLC, ohlc, strict=True)}
    if len(packet) == 184:
        row["last_trade_time"] = _wire_time(packet, 44)
        row["oi"], row["oi_day_high"], row["oi_day_low"] = struct.unpack_from(">III", packet, 48)
        row["exchange_timestamp"] = _wire_time(packet, 60)
        for entry in range(10):
            quantity, price, orders = struct.unpack_from(">IiH", packet, 64 + 12 * entry)
            side, level = ("bid", entry + 1) if entry < 5 else ("ask", entry - 4)
            row[f"{side}_quantity_{level}"] = quantity
            row[f"{side}_price_{level}"] = price / divisor
            row[f"{side}_orders_{level}"] = orders
    return row


def decode_frames(
    frames: Sequence[bytes], *, received_at_ns: Sequence[int] | None = None
) -> tuple[list[Row], WireReport]:
    """Rows as dictionaries with every column of the ticks table, in wire order, and the account of every byte.

    Raises WireError if the numbers of frames and times differ.
    """
    if received_at_ns is not None and len(received_at_ns) != len(frames):
        raise WireError(f"received_at_ns: got {len(received_at_ns)} times, expected {len(frames)}, one a frame")
    rows: list[Row] = []
    quarantined: list[Quarantined] = []
    prefixes = packet_bytes = 0
    for number, frame in enumerate(frames):
        packets, ranges = split_frame(frame)
        quarantined += [Quarantined(number, *where) for where in ranges]
        prefixes += len(packets) + sum(reason == QuarantineReason.UNKNOWN_LENGTH for _, _, reason in ranges)
        packet_bytes += sum(map(len, packets))
        received = {} if received_at_ns is None else _received(received_at_ns[number])
        rows += [dict.fromkeys(TICKS.schema.names) | received | decode_packet(packet) for packet in packets]
    return rows, WireReport(
        frames=len(frames),
        total_bytes=sum(map(len, frames)),
        heartbeats=sum(len(frame) == 1 for frame in frames),
        header_bytes=2 * sum(len(frame) >= 2 for frame in frames),
        prefix_bytes=2 * prefixes,
        packets=len(rows),
        packet_bytes=packet_bytes,
        quarantined=tuple(quarantined),
        unknown_segments=sum(row["exchange"] == UNKNOWN_EXCHANGE for row in rows),
    )


def _wire_time(packet: bytes, at: int) -> datetime | None:
    (seconds,) = struct.unpack_from(">I", packet, at)
    return _EPOCH + timedelta(seconds=seconds) if seconds else None


def _received(received_at_ns: int) -> dict[str, datetime | date]:
    received_at = _EPOCH + timedelta(microseconds=received_at_ns // 1000)
    return {"received_at": received_at, "date": (received_at + _IST_OFFSET).date()}
