"""What the broker's JavaScript and Go clients make of a packet or an answer, from what the Python client makes of it.

Known differences, as of 2026-11-29 (kiteconnect 5.2.2 for Python, kiteconnect 5.3.0 for JavaScript, gokiteconnect
4.4.0):

- JavaScript reads every word of four bytes signed, so prices are right, and quantities, volumes, open interest, tokens
  and instants from 2^31 on are negative; Python and Go read all of them unsigned, so negative prices are wrong.
- Python divides prices of NCO (segment 12) by 10,000, the others by 100.
- An instant of 0 is null in JavaScript, and the year 1970 in Python and Go.
- Of an index without a close, `change` is the packet's own in JavaScript, and 0 in Python.
- Go has no `change` in percent but `NetChange` in rupees, of indices and in full mode alone; what a packet does not
  carry is 0, an instant the year 1.
- JavaScript takes the broker's times, which are IST, for times of the host's zone where it makes dates of them (in
  answers, not in order updates), so it runs in India's zone here; Go adds +05:30, to days too; Python's have no zone.
- JavaScript's instruments have tokens as text, and a row without values at their end.
- JavaScript leaves an open interest of 0 out of a candle.
- Go leaves out what GO_LACKS says; fields of its own that an answer does not have are empty.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tests.support.clients import Stream
from tests.support.simulation import split_frame

NCO: Final = 12
DIVISORS: Final = {3: 10_000_000, 6: 10_000, NCO: 10_000}
_YEAR_ONE: Final = "0001-01-01T00:00:00Z"
_INSTANTS: Final = ("last_trade_time", "exchange_timestamp")
_EMPTY: Final = {"price": 0, "quantity": 0, "orders": 0}
GO_TICK: Final = {
    "last_trade_time": "LastTradeTime",
    "exchange_timestamp": "Timestamp",
    "mode": "Mode",
    "instrument_token": "InstrumentToken",
    "tradable": "IsTradable",
    "last_price": "LastPrice",
    "last_traded_quantity": "LastTradedQuantity",
    "total_buy_quantity": "TotalBuyQuantity",
    "total_sell_quantity": "TotalSellQuantity",
    "volume_traded": "VolumeTraded",
    "average_traded_price": "AverageTradePrice",
    "oi": "OI",
    "oi_day_high": "OIDayHigh",
    "oi_day_low": "OIDayLow",
    "ohlc": "OHLC",
    "depth": "Depth",
}
GO_INSTRUMENT: Final = {
    "instrument_token": "InstrumentToken",
    "exchange_token": "ExchangeToken",
    "tradingsymbol": "Tradingsymbol",
    "name": "Name",
    "last_price": "LastPrice",
    "expiry": "Expiry",
    "strike": "StrikePrice",
    "tick_size": "TickSize",
    "lot_size": "LotSize",
    "instrument_type": "InstrumentType",
    "segment": "Segment",
    "exchange": "Exchange",
}
GO_LACKS: Final = {
    "order": {"unfilled_quantity", "checksum"},
    "trades": {"order_timestamp"},
    "margins": {"utilised.equity"},
}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d.*")
_IST: Final = dt.timezone(dt.timedelta(hours=5, minutes=30))


def signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def _words(tick: Mapping[str, Any]) -> tuple[Callable[[float], int], int]:
    """What gives a price's word, from the Python client's price; and by what the other clients divide it."""
    segment = tick["instrument_token"] & 0xFF
    divisor = DIVISORS.get(segment, 100)
    return lambda price: round(price * divisor), 100 if segment == NCO else divisor


def _with_prices(tick: Mapping[str, Any], price: Callable[[float], float]) -> dict[str, Any]:
    """The same tick with other prices, without `change`."""
    seen = {name: value for name, value in tick.items() if name != "change"}
    for name in seen.keys() & {"last_price", "average_traded_price"}:
        seen[name] = price(tick[name])
    if "ohlc" in tick:
        seen["ohlc"] = {part: price(value) for part, value in tick["ohlc"].items()}
    if "depth" in tick:
        seen["depth"] = {
            side: [{**entry, "price": price(entry["price"])} for entry in levels]
            for side, levels in tick["depth"].items()
        }
    return seen


def javascript_tick(tick: Mapping[str, Any], packet: bytes) -> dict[str, Any]:
    """As JSON has it, from the Python client's of the same packet."""
    word, divisor = _words(tick)
    seen = _with_prices(tick, lambda price: signed(word(price)) / divisor)
    for name, value in seen.items():
        if name in _INSTANTS:
            seconds = signed(round(value.timestamp()))
            seen[name] = _javascript_date(seconds) if seconds else None
        elif type(value) is int:
            seen[name] = signed(value)
    for entry in (entry for levels in seen.get("depth", {}).values() for entry in levels):
        entry["quantity"] = signed(entry["quantity"])
    if "ohlc" in seen:
        close = seen["ohlc"]["close"]
        own = int.from_bytes(packet[24:28], "big", signed=True) if len(packet) < 44 else 0
        seen["change"] = (seen["last_price"] - close) * 100 / close if close else own
    return seen


def _javascript_date(seconds: int) -> str:
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"


def go_tick(tick: Mapping[str, Any], packet: bytes) -> dict[str, Any]:
    """As JSON has it, from the Python client's of the same packet, and with instants as epoch seconds."""
    seen: dict[str, Any] = dict.fromkeys([*GO_TICK.values(), "TotalBuy", "TotalSell", "NetChange"], 0)
    seen |= {"Timestamp": None, "LastTradeTime": None, "IsIndex": not tick["tradable"]}
    seen |= {"OHLC": dict.fromkeys(("open", "high", "low", "close"), 0)}
    seen |= {"Depth": {"buy": [_EMPTY] * 5, "sell": [_EMPTY] * 5}}
    word, divisor = _words(tick)
    priced = _with_prices(tick, lambda price: word(price) / divisor)
    seen |= {GO_TICK[name]: value for name, value in priced.items()}
    for name in ("Timestamp", "LastTradeTime"):
        if seen[name] is not None:
            seen[name] = round(seen[name].timestamp())
    if len(packet) in {28, 32, 184}:
        seen["NetChange"] = priced["last_price"] - priced["ohlc"]["close"]
    return seen


def with_go_instants(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The same, with epoch seconds for Go's texts of instants; None is the year 1, which stands for none."""
    return {**values, **{name: _go_instant(values[name]) for name in names}}


def _go_instant(text: str) -> int | None:
    return None if text == _YEAR_ONE else round(dt.datetime.fromisoformat(text).timestamp())


def differences(seen: Any, raw: Any, where: str = "") -> Iterator[str]:
    """Where a client's answer, as JSON has it, is not what the server said. What is left out ends with "lacks".

    Instants are the same in whatever zone they are written, and what is empty is None, "", 0 or whatever Go has.
    """
    if isinstance(raw, dict) and isinstance(seen, dict):
        yield from (f"{where}.{name} lacks" for name in raw.keys() - seen.keys())
        yield from (
            f"{where}.{name} is new: {seen[name]}" for name in seen.keys() - raw.keys() if not _empty(seen[name])
        )
        for name in raw.keys() & seen.keys():
            yield from differences(seen[name], raw[name], f"{where}.{name}")
    elif isinstance(raw, list) and isinstance(seen, list) and len(raw) == len(seen):
        for mine, its in zip(seen, raw, strict=True):
            yield from differences(mine, its, where)
    elif not (_empty(seen) and _empty(raw)) and _instant(seen) != _instant(raw):
        yield f"{where}: {seen!r} is not {raw!r}"


def _empty(value: Any) -> bool:
    """Nothing, whatever it is that there is nothing of: Go's book always has its five levels."""
    if isinstance(value, dict | list):
        return all(map(_empty, value.values() if isinstance(value, dict) else value))
    return not value or value == _YEAR_ONE


def _instant(value: Any) -> Any:
    """The moment, of a text that is one; any other value as it is."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return value
    moment = dt.datetime.fromisoformat(value)
    return moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=_IST).timestamp()


def javascript_instrument(one: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it, from the Python client's."""
    expiry = f"{one['expiry']}T00:00:00.000Z" if one["expiry"] else ""
    texts = {name: str(one[name]) for name in ("instrument_token", "exchange_token")}
    return {**one, **texts, "expiry": expiry}


def go_instrument(one: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it, from the Python client's."""
    seen = {GO_INSTRUMENT[name]: value for name, value in one.items()}
    expiry = f"{one['expiry']}T00:00:00+05:30" if one["expiry"] else _YEAR_ONE
    return {**seen, "ExchangeToken": int(one["exchange_token"]), "Expiry": expiry}


def check_ticks(client: str, given: Stream, official: Any) -> set[int]:
    """Every field of every tick is as the Python client `official` has it. Returns the lengths of the packets."""
    lengths = set()
    for frame, ticks in given.frames:
        packets, parsed = split_frame(frame), official._parse_binary(frame)
        lengths |= {len(packet) for packet in packets}
        both = zip(parsed, packets, strict=True)
        if client == "javascript":
            assert ticks == [javascript_tick(*one) for one in both]
        else:
            seen = [with_go_instants(tick, "Timestamp", "LastTradeTime") for tick in ticks]
            assert seen == [go_tick(*one) for one in both]
    return lengths


def check_answer(client: str, kind: str, seen: Any, raw: Any) -> None:
    """Every field of an answer, or of an order update, is as the server said it."""
    known = tuple(f".{name} lacks" for name in GO_LACKS.get(kind, ())) if client == "go" else ()
    unknown = [one for one in differences(seen, raw) if not one.endswith(known)]
    assert not unknown, (kind, unknown)
