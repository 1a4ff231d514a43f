"""The market model: 10,000 prices that move together, advanced in steps of a fraction of a second.

Theory. Instruments follow their underlying (`pricing`): equities and indices are at it, futures carry interest, options
are worth what Black–Scholes says. At each step a few instruments are active (independent draws; activity is
heavy-tailed: the busiest 3% tick one to two times a second, the quietest every minute). Only those are priced, trade,
and get a new book and a new packet; so a step costs what ticks, not what is listed.

Invariants: prices are whole ticks, at least one; best bid ≤ last price ≤ best ask, and bid < ask; volume never falls;
low ≤ last, open ≤ high; the same seed, size and start give the same packets, whoever subscribes; an instrument ticks
at most once a step.
"""

import datetime as dt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.server import INDEX_WORDS, WORDS, Images
from ingest.simulator.names import COMMODITIES, CURRENCIES
from ingest.simulator.pricing import INTEREST, Floats, Ints, PriceWalk, black_scholes
from ingest.simulator.universe import Instrument, Universe, build_universe
from storage.clock import IST

IST_OFFSET_SECONDS: Final = 19_800
SECONDS_A_YEAR: Final = 252 * 6.25 * 3600  # of trading
BUSY_SHARE: Final = 0.03
BUSIEST_A_SECOND: Final = 2.0
QUIETEST_A_SECOND: Final = 1 / 60
TAIL: Final = 1.1
TRADED_SHARE: Final = 0.7  # of the ticks; the others only change the book
UNTRADED_SHARE: Final = 0.1  # of the options, at the start: the cached packet is of another day, its book empty
INDEX_TICK_UNITS: Final = 5
UINT32_MAX: Final = 2**32 - 1
PENNY_STOCKS: Final = ("IDEA", "YESBANK")  # their volumes pass 2**31 in real life


class Market:
    """The state of every instrument, and the packet that each would send now (`images`)."""

    def __init__(
        self, *, size: int, seed: int, start: dt.datetime, rate: float = 1.0, steps_per_second: float = 4.0
    ) -> None:
        """Lists, prices and paints all instruments. `start` must have a zone; it names the day of the list (IST)."""
        self.universe: Universe = build_universe(size, seed, start.astimezone(IST).date())
        self.seed = seed
        self.steps = 0
        self._random = np.random.Generator(np.random.PCG64([seed, 2]))
        self._start_seconds = start.timestamp()
        self._clock_steps = 0
        self._day = 0
        self._step_seconds = 1 / steps_per_second
        listed = self.universe.instruments
        self.tokens: Ints = np.array([one.instrument_token for one in listed], np.int64)
        self.index: NDArray[np.bool_] = np.array([one.segment == "INDICES" for one in listed])
        self.images = Images(self.index)
        self.walk = PriceWalk(self.universe.underlyings, self._random)
        self._step_scale = float(np.sqrt(self._step_seconds / SECONDS_A_YEAR))
        self._list(listed, start)
        self._activity_setup(listed, rate)
        self._open_day(listed)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def seconds(self) -> int:
        """The market's clock: UTC epoch seconds, as packets carry it."""
        return int(self._start_seconds + self._clock_steps * self._step_seconds)

    def skip(self, steps: int) -> None:
        """Move the clock without trading: the steps that a late process does not make up for."""
        self._clock_steps += steps

    def step(self) -> Ints:
        """Advance one step; returns (n,) places of those that ticked, each once, in wire order."""
        self.steps += 1
        self._clock_steps += 1
        if (today := self._today()) != self._day:
            self._day = today
            self._roll_day()
        self.walk.move(self._step_scale)
        active = self._random.random(len(self.tokens)) < self._chance
        rows = self._wire_order[active]
        if len(rows):
            self._tick(rows)
        return rows

    def _today(self) -> int:
        """Number of the IST day."""
        return (self.seconds + IST_OFFSET_SECONDS) // 86_400

    # ── set up ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _list(self, listed: tuple[Instrument, ...], start: dt.datetime) -> None:
        day = start.astimezone(IST).date()
        self._follows: Ints = np.array([self.walk.names[one.follows] for one in listed], np.int64)
        self._divisor: Floats = np.array([one.divisor for one in listed], np.float64)
        ticks = [round(one.tick_size * one.divisor) or INDEX_TICK_UNITS for one in listed]
        self._tick_units: Ints = np.array(ticks, np.int64)
        self._lot: Ints = np.maximum(np.array([one.lot_size for one in listed], np.int64), 1)
        self._derivative: NDArray[np.bool_] = np.array([one.expiry is not None for one in listed])
        self._option: NDArray[np.bool_] = np.array([one.instrument_type in {"CE", "PE"} for one in listed])
        self._put: NDArray[np.bool_] = np.array([one.instrument_type == "PE" for one in listed])
        days = [((one.expiry or day) - day).days for one in listed]
        self._years: Floats = np.where(self._derivative, np.array(days) + 0.3, 0.0) / 365
        self._strike: Floats = np.array([one.strike or 1.0 for one in listed], np.float64)

    def _activity_setup(self, listed: tuple[Instrument, ...], rate: float) -> None:
        """Rank by importance: how much its underlying is followed, how near the money, how near the expiry."""
        size = len(listed)
        place = np.arange(len(self.walk.names))
        for contracts in (CURRENCIES, COMMODITIES):
            for near, one in enumerate(contracts):
                if one.name in self.walk.names:
                    place[self.walk.names[one.name]] = 3 + 3 * near
        importance = 1 / np.sqrt(1.0 + place[self._follows])
        importance *= np.where(np.array([one.exchange in {"BSE", "BCD"} for one in listed]), 0.15, 1.0)
        away = np.abs(np.log(self._strike / self.walk.spot[self._follows])) / (
            self.walk.volatility[self._follows] * np.sqrt(np.maximum(self._years, 1 / 365))
        )
        importance *= np.where(self._option, 0.6 * np.exp(-0.7 * away), 1.0)
        importance *= np.where(self._derivative, np.exp(-6 * self._years), 1.0)
        importance *= np.where(self.index, 50.0, self._random.lognormal(0, 0.5, size))
        rank = np.empty(size)
        rank[np.argsort(-importance, kind="stable")] = np.arange(size)
        busy = BUSY_SHARE * size
        a_second = BUSIEST_A_SECOND * np.maximum(rank / busy, 1e-9) ** -TAIL
        a_second = np.where(rank < busy, self._random.uniform(1.0, BUSIEST_A_SECOND, size), a_second)
        self.activity: Floats = np.maximum(a_second, QUIETEST_A_SECOND) * rate
        self._importance = 1 - rank / size
        chance = -np.expm1(-self.activity * self._step_seconds)
        self._wire_order: Ints = self._random.permutation(size)
        self._chance = chance[self._wire_order]

    def _open_day(self, listed: tuple[Instrument, ...]) -> None:
        """Yesterday's close, today's open and a morning's worth of trading, then everybody's cached packet."""
        size = len(self.tokens)
        everybody = np.arange(size)
        draw = self._random
        self.walk.move(0.06)
        close = self._fair_ticks(everybody)
        self.walk.move(0.03)
        self._open: Ints = self._fair_ticks(everybody)
        self.walk.move(0.03)
        self._last: Ints = self._fair_ticks(everybody)
        self._close: Ints = close
        reach = draw.exponential(0.004, (2, size))
        self._high: Ints = np.ceil(np.maximum(self._open, self._last) * (1 + reach[0])).astype(np.int64)
        lowest = np.floor(np.minimum(self._open, self._last) * (1 - np.minimum(reach[1], 0.5)))
        self._low: Ints = np.maximum(lowest, 1).astype(np.int64)
        untraded = self._option & (self._importance < UNTRADED_SHARE)
        lots = np.ceil(draw.lognormal(3 + 7 * self._importance, 1.0)).astype(np.int64)
        penny = np.array([one.tradingsymbol in PENNY_STOCKS and one.exchange == "NSE" for one in listed])
        self._volume: Ints = np.where(untraded | self.index, 0, np.minimum(lots * self._lot, 2**31))
        self._volume[penny] += 2**31
        middle = (self._open + self._last) / 2 * self._tick_units
        self._turnover: Floats = middle * self._volume
        self._oi: Ints = np.where(self._derivative, np.ceil(draw.lognormal(4 + 5 * self._importance, 1.0)), 0).astype(
            np.int64
        )
        self._oi = np.minimum(self._oi * self._lot, 2**31)
        self._oi_high = np.minimum(np.ceil(self._oi * 1.02).astype(np.int64), UINT32_MAX)
        self._oi_low = np.floor(self._oi * 0.97).astype(np.int64)
        self._last_quantity: Ints = np.where(self._volume > 0, self._lot, 0)
        today = self.seconds - draw.integers(1, 600, size)
        other_day = self.seconds - 86_400 - draw.integers(0, 3600, size)
        self._trade_time: Ints = np.where(untraded, other_day, today)
        self._last = np.where(untraded, self._close, self._last)
        for prices in (self._open, self._high, self._low):
            prices[untraded] = 0
        self._paint(everybody, self._trade_time.copy(), empty_book=untraded)
        self._day = self._today()

    def _roll_day(self) -> None:
        """A new day: what is cumulative starts again. Packets stay yesterday's until the next tick; nothing expires."""
        self._close = self._last.copy()
        for column in (self._open, self._high, self._low, self._volume, self._last_quantity):
            column[:] = 0
        self._turnover[:] = 0.0
        self._oi_high, self._oi_low = self._oi.copy(), self._oi.copy()

    # ── one step ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _fair_ticks(self, rows: Ints) -> Ints:
        """(n,) what each is worth, in whole ticks of its own, at least one."""
        spot = self.walk.spot[self._follows[rows]]
        years = self._years[rows]
        worth = spot * np.exp(INTEREST * years)
        option = self._option[rows]
        if option.any():
            chosen = rows[option]
            worth[option] = black_scholes(
                worth[option], self._strike[chosen], years[option],
                self.walk.volatility[self._follows[chosen]], self._put[chosen],
            )  # fmt: skip
        ticks = np.rint(worth * self._divisor[rows] / self._tick_units[rows])
        return np.maximum(ticks, 1).astype(np.int64)

    def _tick(self, rows: Ints) -> None:
        draw = self._random
        size = len(rows)
        fair = self._fair_ticks(rows) + draw.integers(-1, 2, size)
        index = self.index[rows]
        traded = (draw.random(size) < TRADED_SHARE) | index
        untraded_yet = (self._open[rows] == 0) & traded
        last = np.where(traded, np.maximum(fair, 1), self._last[rows])
        self._last[rows] = last
        self._open[rows] = np.where(untraded_yet, last, self._open[rows])
        self._high[rows] = np.where(traded, np.maximum(last, self._high[rows]), self._high[rows])
        self._low[rows] = np.where(traded & ~untraded_yet, np.minimum(last, self._low[rows]), self._low[rows])
        self._low[rows] = np.where(untraded_yet, last, self._low[rows])
        scale = 1.0 + 30.0 * self._importance[rows] ** 4
        lots = np.where(traded & ~index, 1 + np.floor(draw.exponential(scale)), 0).astype(np.int64)
        quantity = np.minimum(lots * self._lot[rows], UINT32_MAX - self._volume[rows])
        self._volume[rows] += quantity
        self._turnover[rows] += last * self._tick_units[rows] * quantity
        self._last_quantity[rows] = np.where(quantity > 0, quantity, self._last_quantity[rows])
        self._trade_time[rows] = np.where(traded, self.seconds, self._trade_time[rows])
        opened = np.rint(draw.normal(0, 0.4, size) * lots).astype(np.int64) * self._lot[rows]
        oi = np.where(self._derivative[rows], np.clip(self._oi[rows] + opened, 0, UINT32_MAX), 0)
        self._oi[rows] = oi
        self._oi_high[rows] = np.maximum(oi, self._oi_high[rows])
        self._oi_low[rows] = np.minimum(oi, self._oi_low[rows])
        self._paint(rows, np.full(size, self.seconds, np.int64))

    def _paint(self, rows: Ints, times: Ints, empty_book: NDArray[np.bool_] | None = None) -> None:
        """Write the packets of `rows`. Words are 4 bytes each, in the order of the full packet (`frames`)."""
        units = self._tick_units[rows]
        index = self.index[rows]
        words = np.zeros((len(rows), WORDS), np.int64)
        last = self._last[rows] * units
        volume = self._volume[rows]
        prices = [column[rows] * units for column in (self._open, self._high, self._low, self._close)]
        words[:, 0] = self.tokens[rows]
        words[:, 1] = last
        words[:, 2] = self._last_quantity[rows]
        words[:, 3] = np.where(volume > 0, np.rint(self._turnover[rows] / np.maximum(volume, 1)), 0)
        words[:, 4] = volume
        for place, column in enumerate(prices, 7):
            words[:, place] = column
        words[:, 11] = self._trade_time[rows]
        words[:, 12] = self._oi[rows]
        words[:, 13] = self._oi_high[rows]
        words[:, 14] = self._oi_low[rows]
        words[:, 15] = times
        self._paint_book(rows, words, empty_book)
        if index.any():
            opened, high, low, close = (column[index] for column in prices)
            values = (
                self.tokens[rows][index],
                last[index],
                high,
                low,
                opened,
                close,
                last[index] - close,
                times[index],
            )
            words[index, :INDEX_WORDS] = np.stack(values, axis=1)
        self.images.paint(rows, words)

    def _paint_book(self, rows: Ints, words: Ints, empty: NDArray[np.bool_] | None) -> None:
        """Five levels a side around the last price, quantities and orders, and the totals of either side."""
        draw = self._random
        size = len(rows)
        last = self._last[rows]
        below = draw.integers(0, 2, size)
        wide = np.where(self._importance[rows] < 0.6, draw.integers(0, 4, size), 0)
        gaps = 1 + (draw.random((size, 8)) < 0.15)
        bid = np.empty((size, 5), np.int64)
        ask = np.empty((size, 5), np.int64)
        bid[:, 0] = last - below
        ask[:, 0] = last + (1 - below) + wide
        bid[:, 1:] = bid[:, :1] - np.cumsum(gaps[:, :4], axis=1)
        ask[:, 1:] = ask[:, :1] + np.cumsum(gaps[:, 4:], axis=1)
        lots = 1 + np.floor(draw.exponential(20.0, (size, 10)) * (0.2 + 3 * self._importance[rows, None]))
        orders = 1 + np.floor(lots * draw.random((size, 10)) / 3)
        quantity = np.minimum(lots * self._lot[rows, None], UINT32_MAX).astype(np.int64)
        levels = np.concatenate([bid, ask], axis=1)
        there = (levels > 0) & ~self.index[rows, None]
        if empty is not None:
            there &= ~empty[:, None]
        words[:, 16::3] = np.where(there, quantity, 0)
        words[:, 17::3] = np.where(there, levels * self._tick_units[rows, None], 0)
        words[:, 18::3] = np.where(there, orders, 0).astype(np.int64) << 16  # uint16, then two bytes of padding
        depth = words[:, 16::3]
        more = np.rint(draw.lognormal(1.5, 0.4, (size, 2)) * 100) / 100
        words[:, 5] = np.minimum(np.rint(depth[:, :5].sum(axis=1) * (1 + more[:, 0])), UINT32_MAX)
        words[:, 6] = np.minimum(np.rint(depth[:, 5:].sum(axis=1) * (1 + more[:, 1])), UINT32_MAX)
