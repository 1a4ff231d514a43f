"""The ticks of `benchmarks.market_day`: full packets of each instrument, stretch after stretch of a day.

A tick is in three of five cases a trade within a tick size of what the instrument is worth, in the hours in which its
kind trades, else a change of the book. What accumulates (volume, value, high, low, open interest) is carried from
stretch to stretch. `last_trade_time` ≤ `exchange_timestamp` ≤ `received_at`, the first two in whole seconds.
"""

import datetime as dt
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from benchmarks.market_listing import GRID_SECONDS, SECONDS, START, Floats, Ints, Listing
from storage.clock import IST
from storage.schema import DEPTH_LEVELS, TICKS

TRADED_SHARE: Final = 0.6
BUSIEST_A_SECOND: Final = 2.0
QUIETEST_A_SECOND: Final = 1 / 120
CONNECTIONS: Final = 2
ACCOUNT: Final = "asha"
_PRE_OPEN: Final = (420, 480)  # seconds from START: when the pre-open session of equities makes its trades
_FAR: Final = 1 << 40  # above every number that is compared within an instrument
_SECOND_US: Final = 1_000_000
_SHOWN_AFTER_US: Final = 200_000  # a trade is in the next packet
_DAY_SECONDS: Final = 86_400
_NULLABLE: Final = frozenset(("account", "connection", "symbol", "last_trade_time", "exchange_timestamp"))
"""Columns of which the decoder does not say that full packets have a value in each row."""


class Ticks:
    """The ticks of a day, stretch after stretch. Prices are in paise, times in microseconds since START."""

    def __init__(self, day: dt.date, stream: str, listing: Listing, ticks: int, random: np.random.Generator) -> None:
        self.seq = 0
        self._stream = stream
        self._listing = listing
        self._random = random
        self._start_us = int(dt.datetime.combine(day, START, IST).timestamp()) * _SECOND_US
        rate = listing.rate
        for _ in range(20):  # to the wanted mean, within bounds
            rate = np.clip(rate * (ticks / SECONDS / rate.sum()), QUIETEST_A_SECOND, BUSIEST_A_SECOND)
        self._rate = rate
        size = len(rate)
        self._latency_us: Ints = self._random.integers(30_000, 250_000, size)
        self._close: Ints = np.rint(listing.worth[:, 0] / listing.tick).astype(np.int64).clip(1) * listing.tick
        zeros, contracts = np.zeros(size, np.int64), ~(listing.is_equity | listing.is_index)
        oi = (contracts * listing.lot * self._random.integers(100, 100_000, size)).clip(max=1 << 30)
        self._carried: dict[str, Ints] = {
            "last": self._close, "quantity": zeros, "volume": zeros, "value": zeros, "open": zeros, "high": zeros,
            "low": zeros + _FAR, "oi": oi, "oi_high": oi, "oi_low": oi,
            "traded_at": zeros + self._start_us // _SECOND_US - _DAY_SECONDS + 23_399,
        }  # fmt: skip

    def between(self, start: float, stop: float) -> list[tuple[str, pa.Table]]:
        """The rows of each exchange, by instrument, then time. `start` and `stop` are seconds from START."""
        listing, random, was = self._listing, self._random, self._carried
        counts = np.floor(self._rate * (stop - start) + random.random(len(self._rate))).astype(np.int64)
        if not start:
            counts = counts.clip(1)
        of = np.arange(len(counts)).repeat(counts)
        first = np.cumsum(counts) - counts
        rows = np.arange(len(of))
        place = (rows - first[of] + random.random(len(of))) / counts[of]
        received: Ints = ((start + place * (stop - start)) * _SECOND_US).astype(np.int64)
        happened = (received - self._latency_us[of]).clip(0)
        seconds = happened / _SECOND_US
        traded_at = (happened - _SHOWN_AFTER_US).clip(0)
        hour = traded_at / _SECOND_US
        is_open = (hour >= listing.opens[of]) & (hour < listing.closes[of])
        is_open |= listing.is_equity[of] & (hour >= _PRE_OPEN[0]) & (hour < _PRE_OPEN[1])
        trades = listing.is_index[of] | (is_open & (random.random(len(of)) < TRADED_SHARE))
        step, part = np.divmod(seconds / GRID_SECONDS, 1)
        at = step.astype(np.int64)
        worth = (listing.worth[of, at] * (1 - part) + listing.worth[of, at + 1] * part) / listing.tick[of]
        noise = np.where(listing.is_index[of], 0, random.integers(-1, 2, len(of)))
        price = (np.rint(worth).astype(np.int64) + noise).clip(1) * listing.tick[of]

        latest = np.maximum.accumulate(np.where(trades, rows, -1)) if len(rows) else rows
        known = latest >= first[of]  # whether the instrument's last trade is in this stretch
        is_traded = trades & ~listing.is_index[of]
        quantity = np.where(is_traded, listing.lot[of] * random.geometric(0.3, len(of)), 0)
        last = np.where(known, price[latest], was["last"][of])
        traded = np.flatnonzero(trades)
        next_trade = traded[np.searchsorted(traded, first).clip(max=len(traded) - 1)] if len(traded) else first
        opening = np.where(was["open"] > 0, was["open"], price[next_trade.clip(max=max(len(rows) - 1, 0))])[of]
        change = np.where(is_traded, listing.lot[of] * random.integers(-2, 3, len(of)), 0)
        change[listing.is_equity[of]] = 0
        oi = _running_sum(change, of, first, was["oi"]).clip(0)
        columns: dict[str, Ints] = {
            "last": last,
            "quantity": np.where(known, quantity[latest], was["quantity"][of]),
            "volume": _running_sum(quantity, of, first, was["volume"]),
            "value": _running_sum(quantity * price, of, first, was["value"]),
            "open": np.where(known, opening, was["open"][of]),
            "high": _running_max(np.where(known, last, 0), of, was["high"]),
            "low": -_running_max(np.where(known, -last, -_FAR), of, -was["low"]),
            "oi": oi,
            "oi_high": _running_max(oi, of, was["oi_high"]),
            "oi_low": -_running_max(-oi, of, -was["oi_low"]),
            "traded_at": np.where(known, (self._start_us + traded_at[latest]) // _SECOND_US, was["traded_at"][of]),
        }
        has, ends = counts > 0, (first + counts - 1)[counts > 0]
        self._carried = {name: was[name].copy() for name in was}
        for name, values in columns.items():
            self._carried[name][has] = values[ends]
        seq = np.empty_like(rows)
        seq[np.argsort(received, kind="stable")] = self.seq + rows
        self.seq += len(rows)
        columns |= {"of": of, "received": received, "happened": happened, "seq": seq}
        return self._parts(columns, worth)

    def _parts(self, columns: dict[str, Ints], worth: Floats) -> list[tuple[str, pa.Table]]:
        """Cut by exchange, as rows of the ticks table."""
        of = columns["of"]
        exchanges = self._listing.exchanges
        starts = [0, *(k for k in range(1, len(exchanges)) if exchanges[k] != exchanges[k - 1]), len(exchanges)]
        parts = []
        for start, stop in pairwise(starts):
            cut = slice(*np.searchsorted(of, [start, stop]))
            if cut.stop > cut.start:
                mine = {name: values[cut] for name, values in columns.items()}
                parts.append((exchanges[start], self._rows(mine, worth[cut])))
        return parts

    def _rows(self, columns: dict[str, Ints], worth: Floats) -> pa.Table:
        listing, of = self._listing, columns["of"]
        rows = len(of)
        found: dict[str, pa.Array] = {
            "received_at": _times(self._start_us + columns["received"]),
            "stream": _repeated(self._stream, rows),
            "seq": pa.array(columns["seq"]),
            "account": _repeated(ACCOUNT, rows),
            "connection": pa.array(of % CONNECTIONS + 1),
            "instrument_token": pa.array(listing.tokens[of]),
            "symbol": pa.DictionaryArray.from_arrays(pa.array(of.astype(np.int32)), listing.symbols),
            "mode": _repeated("full", rows),
            "last_price": _rupees(columns["last"]),
            "open": _rupees(columns["open"]),
            "high": _rupees(columns["high"]),
            "low": _rupees(np.where(columns["low"] == _FAR, 0, columns["low"])),
            "close": _rupees(self._close[of]),
            "exchange_timestamp": _times((self._start_us + columns["happened"]) // _SECOND_US * _SECOND_US),
        }
        if listing.is_index[of[0]]:
            found["price_change"] = _rupees(columns["last"] - self._close[of])
        else:
            average = np.rint(columns["value"] / columns["volume"].clip(1)).astype(np.int64)
            found |= {
                "last_traded_quantity": pa.array(columns["quantity"]),
                "average_traded_price": _rupees(average),
                "volume_traded": pa.array(columns["volume"]),
                "last_trade_time": _times(columns["traded_at"] * _SECOND_US),
                "oi": pa.array(columns["oi"]),
                "oi_day_high": pa.array(columns["oi_high"]),
                "oi_day_low": pa.array(columns["oi_low"]),
                **self._book(of, worth),
            }
        missing = {field.name: pa.nulls(rows, field.type) for field in TICKS.file_schema if field.name not in found}
        table = pa.table({name: {**found, **missing}[name] for name in TICKS.file_schema.names})
        fields = [
            field.with_nullable(field.name in _NULLABLE or column.null_count > 0)
            for field, column in zip(table.schema, table.columns, strict=True)
        ]
        return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))

    def _book(self, of: Ints, worth: Floats) -> dict[str, pa.Array]:
        """Five levels a side around the worth, which is in tick sizes; none below a price of one."""
        random, tick, lot = self._random, self._listing.tick[of], self._listing.lot[of]
        found: dict[str, pa.Array] = {}
        best = {"bid": np.ceil(worth).astype(np.int64) - 1, "ask": np.floor(worth).astype(np.int64).clip(0) + 1}
        for side, away in (("bid", -1), ("ask", 1)):
            at = best[side] + away * random.integers(0, 2, len(of))
            total = np.zeros(len(of), np.int64)
            for level in range(1, DEPTH_LEVELS + 1):
                there = at > 0
                quantity = np.where(there, lot * random.integers(1, 50, len(of)), 0)
                found[f"{side}_price_{level}"] = _rupees(np.where(there, at * tick, 0))
                found[f"{side}_quantity_{level}"] = pa.array(quantity)
                found[f"{side}_orders_{level}"] = pa.array(np.where(there, random.integers(1, 12, len(of)), 0))
                at = at + away
                total += quantity
            found["total_buy_quantity" if side == "bid" else "total_sell_quantity"] = pa.array(total * 20)
        return found


def _running_sum(values: Ints, of: Ints, first: Ints, before: Ints) -> Ints:
    """Sums within each instrument, on top of `before`; `first` are the rows at which instruments begin."""
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    found: Ints = sums[1:] - sums[first][of] + before[of]
    return found


def _running_max(values: Ints, of: Ints, before: Ints) -> Ints:
    """The greatest value so far within each instrument, `before` included."""
    above = of * (4 * _FAR)
    found: Ints = np.maximum(np.maximum.accumulate(values + above) - above, before[of])
    return found


def _rupees(paise: Ints) -> pa.Array:
    return pa.array(paise / 100)


def _times(microseconds: Ints) -> pa.Array:
    return pa.array(microseconds).cast(pa.timestamp("us", "UTC"))


def _repeated(text: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))
