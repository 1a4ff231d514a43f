"""The instruments of `benchmarks.market_day`, and what they are worth.

Indices, NSE equities, NFO futures, and the monthly option chains of NIFTY and BANKNIFTY, 200 strikes each where there
are 3,000 instruments. Underlyings follow random walks with one factor in common; futures are worth them with interest,
options Black-76 of that forward, with a smile.
"""

import datetime as dt
import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.instruments import parse_instruments
from ingest.simulator import build_universe, to_csv
from storage.market import MONTHS, InstrumentKind, Phase, exchange_of_token, number_text, usual_sessions

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LAST_DAY: Final = dt.date(2026, 11, 12)
START: Final = dt.time(9, 0)
SECONDS: Final = 24_000
GRID_SECONDS: Final = 10
INTEREST: Final = 0.065
CHAINS: Final = (("NIFTY", "NSE:NIFTY 50", 50), ("BANKNIFTY", "NSE:NIFTY BANK", 100))
FIRST_OPTION: Final = 60_001
"""The exchange's token of the first chain's lowest call; puts, strikes and chains follow without a gap."""
_TRADING: Final = (900 // GRID_SECONDS, 23_400 // GRID_SECONDS)  # when the walks move


class Listing:
    """The instruments of a day, by exchange and token, as arrays: `tick` in paise, `lot` in units, `rate` a second of
    a mean of 1, hours in seconds from START, `worth` (instruments, moments of the grid) in paise."""

    def __init__(self, size: int, day: dt.date, random: np.random.Generator) -> None:
        universe = build_universe(4 * size, 1, LAST_DAY)
        indices = [one for one in universe.instruments if one.segment == "INDICES" and one.exchange == "NSE"]
        futures = [one for one in universe.instruments if one.segment == "NFO-FUT"]
        equities = [one for one in universe.instruments if one.segment == "NSE"]
        chosen = indices[: size // 100 + 1] + futures[: size // 10]
        option = next(one for one in universe.instruments if one.segment == "NFO-OPT")
        strikes = min(200, size // 15)
        for number, (name, follows, step) in enumerate(CHAINS):
            future = next(one for one in futures if one.name == name)
            assert future.expiry is not None
            month = f"{future.expiry:%y}{MONTHS[future.expiry.month - 1]}"
            lowest = round(universe.underlyings[follows].price / step) - strikes // 2
            for place in range(2 * strikes):
                strike, kind = float((lowest + place // 2) * step), ("CE", "PE")[place % 2]
                token = FIRST_OPTION + 2 * strikes * number + place
                symbol = f"{name}{month}{number_text(strike)}{kind}"
                chosen.append(
                    replace(
                        option, instrument_token=token << 8 | 2, exchange_token=token, tradingsymbol=symbol, name=name,
                        expiry=future.expiry, strike=strike, tick_size=0.05, lot_size=future.lot_size,
                        instrument_type=kind, follows=follows,
                    )
                )  # fmt: skip
        chosen += equities[: size - len(chosen)]
        chosen.sort(key=lambda one: (exchange_of_token(one.instrument_token), one.instrument_token))
        self.table = parse_instruments(to_csv(chosen).encode(), date=day)
        self.tokens: Ints = np.array([one.instrument_token for one in chosen])
        self.symbols = pa.array([f"{one.exchange}:{one.tradingsymbol}" for one in chosen])
        self.exchanges = [exchange_of_token(one.instrument_token) for one in chosen]
        self.is_index = np.array([one.segment == "INDICES" for one in chosen])
        self.is_equity = np.array([one.segment == "NSE" for one in chosen])
        self.tick: Ints = np.array([round(one.tick_size * 100) or 5 for one in chosen])
        self.lot: Ints = np.array([max(one.lot_size, 1) for one in chosen])
        self.rate: Floats = random.lognormal(0, 1.2, len(chosen))
        with_derivatives = {one.follows for one in futures}
        hours = [_hours(one, day, one.follows in with_derivatives) for one in chosen]
        self.opens, self.closes = (np.array(each) for each in zip(*hours, strict=True))

        names = {name: place for place, name in enumerate(universe.underlyings)}
        models = list(universe.underlyings.values())
        moments = np.arange(SECONDS // GRID_SECONDS + 2)
        moves = random.standard_normal((len(models), len(moments))) * 0.8 + random.standard_normal(len(moments)) * 0.6
        moves[:, (moments <= _TRADING[0]) | (moments > _TRADING[1])] = 0
        volatility = np.array([one.volatility for one in models])
        year_of_trading = 252 * 22_500 / GRID_SECONDS
        price = np.array([one.price for one in models])
        spot = price[:, None] * np.exp(np.cumsum(moves * volatility[:, None] / math.sqrt(year_of_trading), axis=1))
        self.worth: Floats = np.empty((len(chosen), len(moments)))
        for place, one in enumerate(chosen):
            at = names[one.follows]
            worth = spot[at]
            if one.expiry is not None:
                years = ((one.expiry - day).days + 0.3) / 365
                worth = worth * math.exp(INTEREST * years)
                if one.strike:
                    worth = black_76(worth, one.strike, years, volatility[at], put=one.instrument_type == "PE")
            self.worth[place] = worth * 100


def _hours(instrument: Any, day: dt.date, has_derivatives: bool) -> tuple[int, int]:
    """The continuous session, in seconds from START."""
    kinds = {"INDICES": InstrumentKind.INDEX, "NFO-FUT": InstrumentKind.FUTURE, "NFO-OPT": InstrumentKind.OPTION}
    share = InstrumentKind.UNDERLYING if has_derivatives else InstrumentKind.SHARE
    sessions = usual_sessions(instrument.exchange, day)[kinds.get(instrument.segment, share)]
    hours = next(session.hours for session in sessions if session.phase is Phase.CONTINUOUS)
    start, stop = ((time.hour - START.hour) * 3600 + time.minute * 60 for time in hours)
    return start, stop


def black_76(forward: Floats, strike: float, years: float, volatility: float, *, put: bool) -> Floats:
    """An option's worth at a rate of 0; volatility rises away from the money."""
    away = np.log(forward / strike)
    deviation = volatility * (1 + 0.8 * away**2) * math.sqrt(years)
    d1 = away / deviation + deviation / 2
    sign = -1 if put else 1
    found: Floats = sign * (forward * _normal(sign * d1) - strike * _normal(sign * (d1 - deviation)))
    return found


def _normal(x: Floats) -> Floats:
    """The normal distribution function."""
    erf = np.array([math.erf(each) for each in x / math.sqrt(2)])
    found: Floats = (1 + erf) / 2
    return found
