"""What the simulated underlyings and options are worth.

Theory. Log prices of the underlyings are random walks driven by one market factor, a factor for each group and noise
of their own, kept within a circuit limit. Options are worth Black–Scholes with a smile.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.simulator.universe import ReturnModel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INTEREST: Final = 0.065
CIRCUIT_LIMIT: Final = 0.18  # of the day's open, as a log return


class PriceWalk:
    """The prices of the underlyings, in the order of `names`: `spot` (n,) rupees, `volatility` (n,) a year."""

    def __init__(self, underlyings: Mapping[str, ReturnModel], random: np.random.Generator) -> None:
        models = underlyings.values()
        groups = {name: place for place, name in enumerate(sorted({one.group for one in models}))}
        market: Floats = np.array([one.market for one in models])
        group: Floats = np.array([one.group_weight for one in models])
        own = np.sqrt(np.maximum(1 - market**2 - group**2, 0.0))
        self.names = {name: place for place, name in enumerate(underlyings)}
        self.volatility: Floats = np.array([one.volatility for one in models])
        self._random = random
        self._group: Ints = np.array([groups[one.group] for one in models], np.int64)
        self._groups = len(groups)
        self._weights: Floats = np.stack([market, group, own]) * self.volatility
        self._base: Floats = np.array([one.price for one in models])
        self._log: Floats = np.zeros(len(self._base))
        self.spot: Floats = self._base.copy()

    def move(self, scale: float) -> None:
        """Draw correlated log returns of all; `scale` is the root of the time in years."""
        market = self._random.standard_normal()
        groups = self._random.standard_normal(self._groups)
        own = self._random.standard_normal(len(self._group))
        weights = self._weights
        self._log += (weights[0] * market + weights[1] * groups[self._group] + weights[2] * own) * scale
        np.clip(self._log, -CIRCUIT_LIMIT, CIRCUIT_LIMIT, out=self._log)
        self.spot = self._base * np.exp(self._log)


def black_scholes(forward: Floats, strike: Floats, years: Floats, volatility: Floats, put: NDArray[np.bool_]) -> Floats:
    """(n,) worth of European options on forwards, in rupees (Black 1976), with a smile about the money."""
    away = np.log(forward / strike)
    deviation = volatility * (1 + 0.8 * away**2) * np.sqrt(years)
    d1 = away / deviation + deviation / 2
    discount = np.exp(-INTEREST * years)
    call = discount * (forward * normal_cdf(d1) - strike * normal_cdf(d1 - deviation))
    worth: Floats = np.where(put, call - discount * (forward - strike), call)
    return np.maximum(worth, 0.0)


def normal_cdf(x: Floats) -> Floats:
    """(n,) the normal distribution function, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-x * x / 2) * poly / np.sqrt(2 * np.pi)
    result: Floats = np.where(x >= 0, 1 - tail, tail)
    return result
