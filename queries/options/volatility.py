"""Black-76: what an option on a forward is worth, the volatility that a price implies, and the greeks. Pure.

    call = D × (F·N(d1) − K·N(d2))      put = D × (K·N(−d2) − F·N(−d1))      D = exp(−rate × years)
    d1 = ln(F/K) / s + s/2              d2 = d1 − s                          s = volatility × √years

(F. Black, "The pricing of commodity contracts", Journal of Financial Economics 3, 1976.) Everything is arrays of one
shape, or numbers for all of them. `years` are of 365 days, volatilities a year as fractions: 0.14 is 14 %. What has no
answer is NaN, never infinite.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_STEPS: Final = 64
"""Newton needs 3 to 10; halving the bracket alone would get to the last bit."""
_MOST: Final = 16.0
"""A total deviation s beyond which an option is worth all that it can be, to the last bit."""
_PER_POINT: Final = 0.01
_PER_DAY: Final = 1 / 365


@dataclass(frozen=True)
class Greeks:
    """What an option's price does, in rupees a unit of the underlying, as something moves and nothing else does.

    `delta`: a rupee of the forward. `gamma`: delta's own change with that. `vega`: a point of volatility, 14 % to 15 %.
    `theta`: a day of the calendar that goes by.
    """

    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats


def option_price(
    forward: ArrayLike, strike: ArrayLike, years: ArrayLike, volatility: ArrayLike, is_put: ArrayLike, rate: float = 0
) -> Floats:
    """What it is worth, in rupees; NaN unless forward, strike, years and volatility are above 0."""
    f, k, t, v, put = _arrays(forward, strike, years, volatility, is_put)
    good = (f > 0) & (k > 0) & (t > 0) & (v > 0)
    f, k, t, v = (np.where(good, each, 1.0) for each in (f, k, t, v))
    sign = np.where(put != 0, -1.0, 1.0)
    outer = _outer(f, k, v * np.sqrt(t))[0]
    worth = np.exp(-rate * t) * (outer + np.maximum(sign * (f - k), 0))
    return np.where(good, worth, np.nan)


def implied_volatility(
    price: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, is_put: ArrayLike, rate: float = 0
) -> Floats:
    """The volatility at which `option_price` is this price.

    NaN where there is none: the price is not above intrinsic value, or not below what the option may be worth at most,
    or forward, strike and years are not above 0.
    """
    p, f, k, t, put = _arrays(price, forward, strike, years, is_put)
    result = np.full(p.shape, np.nan)
    time_value = _time_value(p, f, k, t, put, rate)
    solvable = np.flatnonzero((f > 0) & (k > 0) & (t > 0) & (time_value > 0) & (time_value < np.minimum(f, k)))
    if len(solvable):
        deviation = _deviation(time_value.flat[solvable], f.flat[solvable], k.flat[solvable])
        found = deviation / np.sqrt(t.flat[solvable])
        result.flat[solvable] = np.where(np.isfinite(found), found, np.nan)
    return result


def greeks(
    forward: ArrayLike, strike: ArrayLike, years: ArrayLike, volatility: ArrayLike, is_put: ArrayLike, rate: float = 0
) -> Greeks:
    """Those of each option; NaN where `option_price` is."""
    f, k, t, v, put = _arrays(forward, strike, years, volatility, is_put)
    worth = option_price(f, k, t, v, put, rate)
    good = np.isfinite(worth)
    f, k, t, v = (np.where(good, each, 1.0) for each in (f, k, t, v))
    discount, deviation = np.exp(-rate * t), v * np.sqrt(t)
    d1 = np.log(f / k) / deviation + deviation / 2
    density = np.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    sign = np.where(put != 0, -1.0, 1.0)
    vega = discount * f * density * np.sqrt(t)
    theta = rate * worth - vega * v / (2 * t)
    found = (sign * discount * _normal(sign * d1), discount * density / (f * deviation), vega * _PER_POINT)
    return Greeks(*(np.where(good, each, np.nan) for each in (*found, theta * _PER_DAY)))


def over_intrinsic(
    price: ArrayLike, forward: ArrayLike, strike: ArrayLike, years: ArrayLike, is_put: ArrayLike, rate: float = 0
) -> Floats:
    """How much of a price is not intrinsic value, in rupees of today."""
    p, f, k, t, put = _arrays(price, forward, strike, years, is_put)
    return _time_value(p, f, k, t, put, rate) * np.exp(-rate * t)


def _time_value(p: Floats, f: Floats, k: Floats, t: Floats, put: Floats, rate: float) -> Floats:
    """What a price has over intrinsic value, at expiry: by parity the price of the call or put that has none."""
    result: Floats = p * np.exp(rate * t) - np.maximum(np.where(put != 0, k - f, f - k), 0)
    return result


def _deviation(target: Floats, f: Floats, k: Floats) -> Floats:
    """The s at which the option without intrinsic value is worth `target`, which is between 0 and the lesser of f, k.

    Newton from the point of inflection, √(2 |ln(F/K)|), from which it converges without overshooting (S. Manaster and
    G. Koehler, Journal of Finance 37, 1982): below it on the logarithm of the price, where the price itself bends too
    much, else on the price. A step that leaves the bracket is replaced by halving that.
    """
    low, high = np.zeros_like(target), np.full_like(target, _MOST)
    start = np.sqrt(2 * np.abs(np.log(f / k)))
    s = np.clip(np.maximum(start, target / np.sqrt(f * k)), 1e-12, _MOST / 2)
    result: Floats = s.copy()
    at = np.arange(len(target))
    for _ in range(_STEPS):
        worth, slope = _outer(f, k, s)
        low, high = np.where(worth < target, s, low), np.where(worth < target, high, s)
        with np.errstate(all="ignore"):
            plain = (target - worth) / slope
            bent = np.log(target / worth) * worth / slope
            step = np.where(worth > target, bent, plain)
            following = s + step
        following = np.where((following > low) & (following < high), following, (low + high) / 2)
        going = (np.abs(following - s) > 4e-16 * s) & (worth != target)
        result[at] = np.where(worth == target, s, following)
        if not going.any():
            break
        at, s, low, high = at[going], following[going], low[going], high[going]
        target, f, k = target[going], f[going], k[going]
    return result


def _outer(f: Floats, k: Floats, s: Floats) -> tuple[Floats, Floats]:
    """What the call or put without intrinsic value is worth at expiry, and how that changes with s."""
    away = -np.abs(np.log(f / k)) / s
    d1, d2 = away + s / 2, away - s / 2
    less, more = np.minimum(f, k), np.maximum(f, k)
    worth = np.maximum(less * _normal(d1) - more * _normal(d2), 0.0)
    slope: Floats = less * np.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    return worth, slope


def _normal(x: Floats) -> Floats:
    """The normal distribution, to the last digits also far out."""
    flat = (-x.ravel() * math.sqrt(0.5)).tolist()
    result: Floats = 0.5 * np.fromiter(map(math.erfc, flat), np.float64, len(flat)).reshape(x.shape)
    return result


def _arrays(*values: ArrayLike) -> tuple[Floats, ...]:
    found: Any = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in values))
    return tuple(found)
