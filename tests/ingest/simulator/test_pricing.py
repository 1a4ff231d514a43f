"""What underlyings and options are worth."""

import datetime as dt

import numpy as np
import pytest

from ingest.simulator.pricing import CIRCUIT_LIMIT, PriceWalk, black_scholes, normal_cdf
from ingest.simulator.universe import build_universe


def walk() -> PriceWalk:
    return PriceWalk(build_universe(1000, 1, dt.date(2026, 11, 23)).underlyings, np.random.default_rng(1))


def test_prices_move_together() -> None:
    """The market factor shows: returns of the index and of large stocks correlate, those of a currency hardly."""
    one = walk()
    history = []
    for _ in range(2000):
        one.move(1e-4)
        history.append(np.log(one.spot))
    correlation = np.corrcoef(np.diff(np.array(history), axis=0).T)
    at = one.names
    assert correlation[at["NSE:NIFTY 50"], at["INFY"]] > 0.3
    assert correlation[at["INFY"], at["TCS"]] > correlation[at["INFY"], at["TATASTEEL"]] > 0.05
    assert correlation[at["GOLD"], at["GOLDM"]] > 0.8
    assert abs(correlation[at["INFY"], at["CRUDEOIL"]]) < 0.3


def test_prices_keep_within_the_circuit_limit() -> None:
    one = walk()
    base = one.spot.copy()
    for _ in range(50):
        one.move(0.5)
    away = np.abs(np.log(one.spot / base))
    assert away.max() == pytest.approx(CIRCUIT_LIMIT)


def test_black_scholes_keeps_put_call_parity() -> None:
    forward = np.array([100.0, 100.0, 100.0])
    strike = np.array([80.0, 100.0, 120.0])
    years, volatility = np.full(3, 0.25), np.full(3, 0.2)
    call = black_scholes(forward, strike, years, volatility, np.zeros(3, bool))
    put = black_scholes(forward, strike, years, volatility, np.ones(3, bool))
    assert call - put == pytest.approx(np.exp(-0.065 * 0.25) * (forward - strike), abs=1e-4)
    assert call[1] == pytest.approx(3.92, abs=0.05)  # 0.4 · F · σ · √T, discounted
    assert normal_cdf(np.array([-1.96, 0.0, 1.96])) == pytest.approx([0.025, 0.5, 0.975], abs=1e-4)
