"""The instrument list of the simulated market: real names first, plausible made-up ones after them, in Kite's form.

Theory: the market is a set of groups (NSE equities, index options, …), each with a share of the wanted number and a
generator that yields the most important instruments first. Everything follows from the size, the seed and the day:
no state, no clock.

Form (Kite Connect v3 docs and the broker's instrument dump): `instrument_token = exchange_token << 8 | segment byte`;
the symbols of derivatives as in `storage.market.contracts`.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Final

import numpy as np

from ingest.simulator.expiries import dated_expiries, future_symbol, monthly_expiries, option_symbol, weekly_expiries
from ingest.simulator.names import (
    BSE_DERIVATIVES,
    COMMODITIES,
    CURRENCIES,
    ENDINGS,
    INDEX_DERIVATIVES,
    INDICES,
    SECTORS,
    STOCKS,
    SYLLABLES,
    Contract,
    Derivative,
    Stock,
)
from storage.market import number_text

SEGMENT_BYTES: Final = {"NSE": 1, "NFO": 2, "CDS": 3, "BSE": 4, "BFO": 5, "BCD": 6, "MCX": 7, "INDICES": 9}
DIVISORS: Final = {"CDS": 10_000_000, "BCD": 10_000}  # every other: 100 (pykiteconnect, ticker.py)
HEADER: Final = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    "instrument_type,segment,exchange"
)
STOCKS_WITH_DERIVATIVES: Final = 180
SHARES: Final = {"NSE": 0.21, "NFO-FUT": 0.055, "NFO-OPT": 0.43, "BFO": 0.055, "CDS": 0.03, "BCD": 0.01, "MCX": 0.05}
_FIRST_TOKEN: Final = {
    "NSE": 30_001,
    "BSE": 543_201,
    "NFO": 35_001,
    "BFO": 820_001,
    "CDS": 1_101,
    "BCD": 1_101,
    "MCX": 430_101,
}


@dataclass(frozen=True)
class ReturnModel:
    """How an underlying moves: its price in rupees, its annual volatility, and the weights of the market and of its
    group in its returns."""

    price: float
    volatility: float
    market: float
    group: str
    group_weight: float


@dataclass(frozen=True)
class Instrument:
    """One row of the list, and the name of the `ReturnModel` that it follows. `expiry` None: it does not expire."""

    instrument_token: int
    exchange_token: int
    tradingsymbol: str
    name: str
    expiry: dt.date | None
    strike: float
    tick_size: float
    lot_size: int
    instrument_type: str
    segment: str
    exchange: str
    follows: str

    @property
    def divisor(self) -> int:
        """What turns rupees into the wire's integers."""
        return DIVISORS.get(self.exchange, 100)


@dataclass(frozen=True)
class Universe:
    """All instruments of one simulated day, and what they follow."""

    day: dt.date
    instruments: tuple[Instrument, ...]
    underlyings: dict[str, ReturnModel]


def build_universe(size: int, seed: int, day: dt.date) -> Universe:
    """`size` instruments, some of each kind from 100 on, as listed on `day`: the same for the same arguments."""
    builder = _Builder(seed, day)
    quota = {group: round(share * size) for group, share in SHARES.items()}
    makers = {
        "NSE": builder.equities("NSE"),
        "NFO-FUT": builder.futures(),
        "NFO-OPT": builder.options("NFO", (*INDEX_DERIVATIVES, *builder.stock_derivatives())),
        "BFO": chain(builder.index_futures("BFO", BSE_DERIVATIVES), builder.options("BFO", BSE_DERIVATIVES)),
        "CDS": builder.contracts("CDS", CURRENCIES),
        "BCD": builder.contracts("BCD", CURRENCIES),
        "MCX": builder.contracts("MCX", COMMODITIES),
    }
    instruments = list(builder.indices())[: max(3, size // 50)]
    for group, maker in makers.items():
        instruments += islice(maker, quota[group])
    instruments += islice(builder.equities("BSE"), max(size - len(instruments), 0))
    return Universe(day, tuple(instruments), builder.underlyings)


def to_csv(instruments: Iterable[Instrument]) -> str:
    """The list as Kite dumps it: names quoted, expiry empty and strike 0 where there is none, last price always 0."""
    lines = (
        f"{one.instrument_token},{one.exchange_token},{one.tradingsymbol},"
        f'"{one.name}",0,{one.expiry.isoformat() if one.expiry else ""},{number_text(one.strike)},'
        f"{number_text(one.tick_size)},{one.lot_size},{one.instrument_type},{one.segment},{one.exchange}\n"
        for one in instruments
    )
    return "".join([HEADER, "\n", *lines])


def equity_tick(price: float) -> float:
    """NSE's tick size by price band (NSE circular on tick sizes, 2025)."""
    return next(tick for limit, tick in _TICK_BANDS if price < limit)


_TICK_BANDS: Final = ((250, 0.01), (1000, 0.05), (5000, 0.1), (10_000, 0.5), (20_000, 1.0), (float("inf"), 5.0))
_STEP_BANDS: Final = (
    (50, 0.5),
    (250, 2.5),
    (500, 5),
    (1000, 10),
    (2500, 20),
    (5000, 50),
    (20_000, 100),
    (float("inf"), 500),
)


class _Builder:
    """Hands out tokens and collects the underlyings that were used."""

    def __init__(self, seed: int, day: dt.date) -> None:
        self.day = day
        self.underlyings: dict[str, ReturnModel] = {}
        self._random = np.random.Generator(np.random.PCG64([seed, 1]))
        self._companies = list(STOCKS)
        self._names = {stock.symbol for stock in STOCKS}
        self._next = dict(_FIRST_TOKEN)

    def indices(self) -> Iterator[Instrument]:
        for index in INDICES:
            follows = f"{index.exchange}:{index.symbol}"
            weight = 0.95 if index.beta > 0 else -0.8
            self.underlyings[follows] = ReturnModel(index.price, index.volatility, weight, "INDEX", 0.0)
            token = index.token << 8 | SEGMENT_BYTES["INDICES"]
            yield Instrument(
                token, index.token, index.symbol, index.symbol, None, 0, 0, 0, "EQ", "INDICES", index.exchange, follows
            )

    def equities(self, exchange: str) -> Iterator[Instrument]:
        """NSE lists three of four companies, BSE all of them."""
        for place in count():
            if exchange == "NSE" and place >= len(STOCKS) and place % 4 == 3:
                continue
            stock = self._company(place)
            known = stock.nse_token if exchange == "NSE" else stock.bse_code
            yield self._instrument(
                exchange,
                exchange,
                stock.symbol,
                stock.name,
                "EQ",
                equity_tick(stock.price),
                1,
                stock.symbol,
                token=known,
            )

    def stock_derivatives(self) -> list[Derivative]:
        """Listed futures and options on single stocks, the most important first."""
        stocks = (self._company(k) for k in range(STOCKS_WITH_DERIVATIVES))
        derivatives = []
        for stock in stocks:
            step = next(step for limit, step in _STEP_BANDS if stock.price < limit)
            lot = max(25, round(750_000 / stock.price / 25) * 25) if stock.price < 20_000 else 5
            derivatives.append(Derivative(stock.symbol, stock.symbol, step, lot, 1, 0))
        return derivatives

    def futures(self) -> Iterator[Instrument]:
        return self.index_futures("NFO", (*INDEX_DERIVATIVES, *self.stock_derivatives()))

    def index_futures(self, exchange: str, derivatives: Iterable[Derivative]) -> Iterator[Instrument]:
        """Three months of futures on each."""
        derivatives = tuple(derivatives)
        for month in range(3):
            for one in derivatives:
                expiry = next(islice(monthly_expiries(self.day, one.weekday), month, None))
                tick = self._tick(one)
                yield self._instrument(
                    exchange, f"{exchange}-FUT", future_symbol(one.name, expiry), one.name, "FUT", tick, one.lot_size,
                    one.follows, expiry=expiry,
                )  # fmt: skip

    def options(self, exchange: str, derivatives: Iterable[Derivative]) -> Iterator[Instrument]:
        """Chains around the spot, outwards ring by ring; an index's grow four strikes while a stock's grow one."""
        chains: list[tuple[Derivative, dt.date, bool, int]] = []
        for one in derivatives:
            index = ":" in one.follows
            months = islice(monthly_expiries(self.day, one.weekday), 3 if index else 2)
            weeks = islice(weekly_expiries(self.day, one.weekday), one.weeklies)
            chains += [(one, expiry, False, 4 if index else 1) for expiry in months]
            chains += [(one, expiry, True, 4) for expiry in weeks]
        for ring in count():
            for one, expiry, weekly, width in chains:
                for place in range(ring * width, (ring + 1) * width):
                    yield from self._pairs(exchange, one, expiry, weekly, place)
            if ring > 5000:
                return

    def contracts(self, exchange: str, contracts: Iterable[Contract]) -> Iterator[Instrument]:
        """Futures on each, then option chains on those that have any, ring by ring."""
        contracts = tuple(contracts)
        for one in contracts:
            group = "CURRENCY" if one.day == 0 else one.name[:3]
            market, weight = (-0.3, 0.6) if one.day == 0 else (0.1, 0.97)
            self.underlyings[one.name] = ReturnModel(one.price, one.volatility, market, group, weight)
        for month in range(3):
            for one in contracts:
                expiry = next(islice(dated_expiries(self.day, one.day), month, None))
                yield self._instrument(
                    exchange, f"{exchange}-FUT", future_symbol(one.name, expiry), one.name, "FUT", one.tick_size, 1,
                    one.name, expiry=expiry,
                )  # fmt: skip
        derivatives = [Derivative(c.name, c.name, c.strike_step, 1, 0, 0) for c in contracts if c.strike_step]
        expiries = {c.name: list(islice(dated_expiries(self.day, c.day), 2)) for c in contracts}
        for place in range(20_000):
            for derivative in derivatives:
                for expiry in expiries[derivative.name]:
                    yield from self._pairs(exchange, derivative, expiry, False, place)

    def _pairs(self, exchange: str, one: Derivative, expiry: dt.date, weekly: bool, place: int) -> Iterator[Instrument]:
        """The call and the put at the `place`-th strike from the spot: 0 at it, 1 above, 2 below, and so on."""
        around = round(self.underlyings[one.follows].price / one.strike_step)
        steps = around + (place + 1) // 2 * (1 if place % 2 else -1)
        if steps <= 0:
            return
        strike = steps * one.strike_step
        for kind in ("CE", "PE"):
            yield self._instrument(
                exchange, f"{exchange}-OPT", option_symbol(one.name, expiry, weekly, strike, kind), one.name, kind,
                0.0025 if exchange in DIVISORS else 0.05, one.lot_size, one.follows, expiry=expiry, strike=strike,
            )  # fmt: skip

    def _instrument(
        self,
        exchange: str,
        segment: str,
        symbol: str,
        name: str,
        kind: str,
        tick: float,
        lot: int,
        follows: str,
        *,
        token: int = 0,
        expiry: dt.date | None = None,
        strike: float = 0,
    ) -> Instrument:
        if not token:
            token = self._next[exchange]
            self._next[exchange] += 1
        return Instrument(
            token << 8 | SEGMENT_BYTES[exchange],
            token, symbol, name, expiry, strike, tick, lot, kind, segment, exchange, follows,
        )  # fmt: skip

    def _tick(self, one: Derivative) -> float:
        return 0.1 if ":" in one.follows else max(equity_tick(self.underlyings[one.follows].price), 0.05)

    def _company(self, place: int) -> Stock:
        """The `place`-th company, made up if the real ones are used up."""
        while place >= len(self._companies):
            self._companies.append(self._made_up())
        stock = self._companies[place]
        if stock.symbol not in self.underlyings:
            volatility = 0.2 + 0.25 * float(self._random.random())
            self.underlyings[stock.symbol] = ReturnModel(stock.price, volatility, 0.5, stock.sector, 0.4)
        return stock

    def _made_up(self) -> Stock:
        symbol = ""
        while not symbol or symbol in self._names:
            first, second = (SYLLABLES[k] for k in self._random.integers(0, len(SYLLABLES), 2))
            ending = ENDINGS[self._random.integers(0, len(ENDINGS))]
            symbol = f"{first}{second}{ending}"
            if symbol in self._names:  # a series of the same company
                symbol += str(self._random.integers(2, 100))
        self._names.add(symbol)
        price = round(float(np.clip(self._random.lognormal(5.6, 1.1), 2.0, 60_000.0)), 2)
        name = (
            f"{symbol.title()} Ltd, India" if len(self._names) % 50 == 0 else f"{symbol} LTD"
        )  # a comma is no delimiter
        sector = SECTORS[self._random.integers(0, len(SECTORS))]
        return Stock(symbol, name, 0, 0, price, sector)
